"""The answer of `vram check` as a document: the broken limits, and what made the peak grow."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.module_paths import parent_path
from vram_cli.records import Category, CheckResult, Finding, FindingKind, ModuleChange, PeakMemory
from vram_cli.report import document as doc
from vram_cli.report.answers.growth import growth_lines
from vram_cli.report.answers.memory import breakdown_table
from vram_cli.report.answers.run_sections import config_section, context, evidence, notes
from vram_cli.report.answers.script import host_memory_note, script_remark, writes_line
from vram_cli.report.words import CATEGORY_LABELS, ended, number, one_line, origin, percent, place
from vram_cli.units import format_bytes

TITLES = {
    FindingKind.DOES_NOT_FIT: "does not fit",
    FindingKind.ABOVE_LIMIT: "above the limit",
    FindingKind.GREW: "peak memory grew",
}

_MODULES_SHOWN = 5
_MESSAGE_LIMIT = 300
_SIZES = (doc.Column("baseline"), doc.Column("now"), doc.Column("change"))


def check_document(check: CheckResult) -> doc.Document:
    """Return the answer of `vram check`."""
    run = check.result.run
    problems = tuple(
        (f"{TITLES[finding.kind].capitalize()}:", finding_words(check, finding)) for finding in check.findings
    )
    return doc.Document(
        heading=_heading(check),
        summary=growth_lines(check.result.measurement, run.device),
        verdict="pass" if check.passed else "fail",
        context=context(check.command, run),
        remark=script_remark(replace(run, remark=""), check.result.measurement.batch_size),
        blocks=(
            *((doc.Notes(problems, is_problem=True),) if problems else ()),
            *((doc.Pairs(facts),) if (facts := _facts(check)) else ()),
            *(_changes(check) if check.findings else ()),
            *notes(*remarks(check)),
            evidence(run, writes_line(run, (check.result.measurement,)), formats=doc.PAGES),
            config_section(run),
        ),
    )


def finding_words(check: CheckResult, finding: Finding) -> str:
    """Return a finding as a sentence: the limit, the excess, and what caused it."""
    if finding.kind is FindingKind.DOES_NOT_FIT:
        trial, device = check.result.measurement, check.result.run.device
        why = f": {one_line(trial.message, _MESSAGE_LIMIT).rstrip('.')}" if trial.message else ""
        short = f"at least {format_bytes(finding.excess_bytes)} short"
        return f"it {ended(trial.outcome, trial.phase, trial.rank)} on {device.name}{why}; {short}{_need(check)}"
    if finding.kind is FindingKind.ABOVE_LIMIT:
        peak, most = format_bytes(finding.bytes), format_bytes(finding.allowed_bytes)
        return f"{peak} reserved, {format_bytes(finding.excess_bytes)} above --max-memory {most}{_largest(check)}"
    before = finding.baseline_bytes or 0
    growth, share = _signed(finding.bytes - before), percent(finding.bytes - before, before, 1)
    allowed = f"{100 * check.limits.tolerance:g} % is allowed"
    sizes = f"{finding.counter} {format_bytes(before)} in the baseline, {format_bytes(finding.bytes)} now"
    return f"{sizes} ({growth}, {share}; {allowed}){_cause(check)}"


def remarks(check: CheckResult) -> tuple[str, ...]:
    """Return the remarks on the run and on the comparison."""
    run = check.result.run
    return (*filter(None, (run.remark, host_memory_note(run))), *check.remarks)


def _heading(check: CheckResult) -> doc.Line:
    run, peak = check.result.run, check.peak
    per_rank = " per rank" if run.parallel else ""
    subject = f"{run.config_name} at batch size {number(check.result.measurement.batch_size)}{per_rank}"
    if check.findings:
        kinds = dict.fromkeys(TITLES[finding.kind] for finding in check.findings)
        return "Fails:", f"{subject}: {', '.join(kinds)} ({origin(run.device)})"
    reserved = f" reserves {format_bytes(peak.reserved_bytes)} at its peak" if peak else ""
    return "Passes:", f"{subject}{reserved} ({origin(run.device)})"


def _facts(check: CheckResult) -> tuple[doc.Line, ...]:
    """Return the peak and what it was compared with."""
    peak, breakdown = check.peak, check.result.breakdown
    lines = []
    if peak is not None:
        phase = f", {place(breakdown.peak_phase)}" if breakdown else ""
        lines.append(("Peak:", f"{_both(peak)}{phase}"))
    if (most := check.limits.max_memory_bytes) is not None:
        used = f" ({percent(peak.reserved_bytes, most)} of it reserved)" if peak else ""
        lines.append(("Limit:", f"{format_bytes(most)}{used}"))
    if check.baseline_peak is not None:
        allowed = f"{100 * check.limits.tolerance:g} % more is allowed"
        lines.append(("Baseline:", f"{_both(check.baseline_peak)}, in {check.baseline_name}; {allowed}"))
    return tuple(lines)


def _changes(check: CheckResult) -> tuple[doc.Block, ...]:
    if not check.rows:
        breakdown = check.result.breakdown
        return (breakdown_table(breakdown, check.result.run.device),) if breakdown else ()
    rows = tuple(
        doc.Row((CATEGORY_LABELS[row.category], *_sizes(row.baseline_bytes, row.bytes)))
        for row in check.rows
        if row.growth
    )
    table = doc.Table("Changes at the peak", (doc.Column("category", "name"), *_SIZES), rows)
    largest = sorted(check.modules, key=lambda change: -abs(change.growth))[:_MODULES_SHOWN]
    modules = tuple(
        doc.Row(
            (
                _module_name(change),
                "-" if change.new else format_bytes(change.baseline_bytes),
                *_sizes(change.baseline_bytes, change.bytes)[1:],
                CATEGORY_LABELS[change.category],
            )
        )
        for change in check.modules
        if change in largest
    )
    columns = (doc.Column("module", "name"), *_SIZES, doc.Column("mostly", "words", min_width=76))
    return (table, *((doc.Table("Changes by module", columns, modules),) if modules else ()))


def _sizes(before: int, now: int) -> tuple[str, str, str]:
    return format_bytes(before), format_bytes(now), _signed(now - before)


def _module_name(change: ModuleChange) -> str:
    return f"{change.path or '(outside its modules)'}{' (new)' if change.new else ''}"


def _cause(check: CheckResult) -> str:
    """Return the category and the module that grew most."""
    rows = [f"{CATEGORY_LABELS[row.category]} {_signed(row.growth)}" for row in check.rows if row.growth > 0]
    modules = [
        f"in {_module_name(change)} {_signed(change.growth)}, mostly {CATEGORY_LABELS[change.category]}"
        for change in check.modules
        if change.growth > 0
    ]
    causes = "; ".join([*rows[:1], *modules[:1]])
    return f". Grew most: {causes}" if causes else ""


def _largest(check: CheckResult) -> str:
    """Return what grew or, without a baseline, what is largest."""
    if check.rows:
        return _cause(check)
    breakdown = check.result.breakdown
    if breakdown is None:
        return ""
    outside = (Category.COMMUNICATION, Category.CONTEXT, Category.FREE)
    row = max((row for row in breakdown.rows if row.category not in outside), key=lambda row: row.bytes)
    largest = [f"Largest: {CATEGORY_LABELS[row.category]} {format_bytes(row.bytes)}"]
    parents = {parent_path(share.path) for share in breakdown.modules}
    leaves = [share for share in breakdown.modules if share.path and share.path not in parents]
    if leaves:
        share = max(leaves, key=lambda share: share.bytes)
        largest.append(f"of all modules {share.path} {format_bytes(share.bytes)}")
    return f". {'; '.join(largest)}"


def _need(check: CheckResult) -> str:
    if check.peak is None:
        return ""
    return f"; with enough memory it would reserve {format_bytes(check.peak.reserved_bytes)}{_largest(check)}"


def _both(peak: PeakMemory) -> str:
    return f"{format_bytes(peak.reserved_bytes)} reserved, {format_bytes(peak.allocated_bytes)} allocated"


def _signed(growth: int) -> str:
    return f"{'+' if growth > 0 else ''}{format_bytes(growth)}"
