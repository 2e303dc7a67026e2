"""The answer of `vram check`: what breaks a limit and what made it grow, as words, text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from vram_cli.records import Category, CheckResult, Finding, FindingKind, ModuleChange, PeakMemory, RowChange
from vram_cli.report.tables import breakdown_table, names, numbers, pairs, ruled
from vram_cli.report.words import CATEGORY_LABELS, ended, literal, number, one_line, origin, percent, place
from vram_cli.units import format_bytes

TITLES = {
    FindingKind.DOES_NOT_FIT: "does not fit",
    FindingKind.ABOVE_LIMIT: "above the limit",
    FindingKind.GREW: "peak memory grew",
}
ROW_HEADS = ("row", "baseline", "now", "change")
MODULE_HEADS = ("module", "baseline", "now", "change", "mostly")

_MODULES_SHOWN = 5
_WITH_CATEGORY = 76
_MESSAGE_LIMIT = 300


def verdict_as_json(verdict: CheckResult) -> str:
    """Return the verdict as one JSON object; sizes are in bytes, and the timeline is left out."""
    document = {"schema_version": verdict.schema_version, "passed": verdict.passed} | asdict(verdict)
    for written, finding in zip(document["findings"], verdict.findings, strict=True):
        written |= {"excess_bytes": finding.excess_bytes, "message": finding_words(verdict, finding)}
    if document["result"]["breakdown"]:
        document["result"]["breakdown"]["timeline"] = None
    return json.dumps(document, indent=2)


def verdict_text(verdict: CheckResult) -> RenderableType:
    """Return the verdict, to be drawn as wide as the console is."""
    return _Text(verdict)


def verdict_line(verdict: CheckResult) -> tuple[str, str]:
    """Return the verdict in a line: what is shown in bold, and what follows it."""
    result, peak = verdict.result, verdict.peak
    subject = f"{result.run.config_name} at batch size {number(result.trials[-1].batch_size)}"
    if verdict.findings:
        kinds = dict.fromkeys(TITLES[finding.kind] for finding in verdict.findings)
        return "Fails:", f"{subject}: {', '.join(kinds)} ({origin(result.run.device)})"
    reserved = f" reserves {format_bytes(peak.reserved_bytes)} at its peak" if peak else ""
    return "Passes:", f"{subject}{reserved} ({origin(result.run.device)})"


def finding_words(verdict: CheckResult, finding: Finding) -> str:
    """Return a finding as a sentence: which limit, by how much, and what made it so."""
    if finding.kind is FindingKind.DOES_NOT_FIT:
        trial, device = verdict.result.trials[-1], verdict.result.run.device
        why = f": {one_line(trial.message, _MESSAGE_LIMIT).rstrip('.')}" if trial.message else ""
        missing = f"at least {format_bytes(finding.excess_bytes)} short"
        return f"it {ended(trial.outcome, trial.phase)} on {device.name}{why}; {missing}{_taking(verdict)}"
    if finding.kind is FindingKind.ABOVE_LIMIT:
        peak, most = format_bytes(finding.bytes), format_bytes(finding.allowed_bytes)
        return f"{peak} reserved, {format_bytes(finding.excess_bytes)} above --max-memory {most}{_largest(verdict)}"
    before = finding.before_bytes or 0
    grown, share = _change(finding.bytes - before), percent(finding.bytes - before, before, 1)
    allowed = f"{100 * verdict.limits.tolerance:g} % is allowed"
    words = f"{finding.counter} {format_bytes(before)} in the baseline, {format_bytes(finding.bytes)} now"
    return f"{words} ({grown}, {share}; {allowed}){_cause(verdict)}"


def facts(verdict: CheckResult) -> list[tuple[str, str]]:
    """Return what was compared with what: label and text of each line."""
    peak, result = verdict.peak, verdict.result
    lines = []
    if peak is not None:
        phase = f", {place(result.breakdown.peak_phase)}" if result.breakdown else ""
        lines.append(("Peak:", f"{_both(peak)}{phase}"))
    if verdict.limits.max_memory_bytes is not None:
        most = verdict.limits.max_memory_bytes
        used = f" ({percent(peak.reserved_bytes, most)} of it reserved)" if peak else ""
        lines.append(("Limit:", f"{format_bytes(most)}{used}"))
    if verdict.baseline_peak is not None:
        allowed = f"{100 * verdict.limits.tolerance:g} % more is allowed"
        lines.append(("Baseline:", f"{_both(verdict.baseline_peak)}, in {verdict.baseline_name}; {allowed}"))
    return lines


def notes(verdict: CheckResult) -> tuple[str, ...]:
    """Return what else a reader should know."""
    return (*filter(None, (verdict.result.run.remark,)), *verdict.remarks)


def row_cells(change: RowChange) -> tuple[str, str, str, str]:
    """Return the cells below `ROW_HEADS`."""
    sizes = format_bytes(change.before), format_bytes(change.now), _change(change.growth)
    return CATEGORY_LABELS[change.category], *sizes


def module_cells(change: ModuleChange) -> tuple[str, str, str, str, str]:
    """Return the cells below `MODULE_HEADS`."""
    before = "-" if change.new else format_bytes(change.before)
    mostly = CATEGORY_LABELS[change.category]
    return module_name(change), before, format_bytes(change.now), _change(change.growth), mostly


def module_name(change: ModuleChange) -> str:
    """Return a module's name for people, with "(new)" where the baseline does not have it."""
    return f"{change.path or '(outside its modules)'}{' (new)' if change.new else ''}"


def shown_rows(verdict: CheckResult) -> list[RowChange]:
    """Return the rows that changed."""
    return [change for change in verdict.rows if change.growth]


def shown_modules(verdict: CheckResult) -> list[ModuleChange]:
    """Return the modules that changed most, in the order of their growth."""
    largest = sorted(verdict.modules, key=lambda change: -abs(change.growth))[:_MODULES_SHOWN]
    return [change for change in verdict.modules if change in largest]


class _Text:
    def __init__(self, verdict: CheckResult) -> None:
        self._verdict = verdict

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the sections with an empty line between two."""
        for index, section in enumerate(self._sections(options.max_width)):
            if index:
                yield Segment.line()
            yield section

    def _sections(self, width: int) -> Iterator[RenderableType]:
        verdict = self._verdict
        label, text = verdict_line(verdict)
        yield Text.assemble((label, "bold green" if verdict.passed else "bold red"), " ", literal(text))
        if verdict.findings:
            yield Group(*(_finding(verdict, finding) for finding in verdict.findings))
        yield pairs([(literal(name, "dim"), literal(text)) for name, text in facts(verdict)])
        if verdict.findings and verdict.rows:
            yield from _tables(verdict, width)
        elif verdict.findings and verdict.result.breakdown is not None:
            yield breakdown_table(verdict.result.breakdown, verdict.result.run.device, width)
        if notes(verdict):
            yield pairs([(Text("Note:", "yellow"), literal(note)) for note in notes(verdict)])


def _finding(verdict: CheckResult, finding: Finding) -> Text:
    title, words = TITLES[finding.kind], finding_words(verdict, finding)
    return Text.assemble((title.capitalize(), "red"), ": ", literal(words))


def _tables(verdict: CheckResult, width: int) -> Iterator[RenderableType]:
    rows = ruled(names(ROW_HEADS[0]), *(numbers(head) for head in ROW_HEADS[1:]))
    for change in shown_rows(verdict):
        rows.add_row(*row_cells(change))
    yield Group(Text("What changed at the peak", "bold"), rows)
    if modules := shown_modules(verdict):
        heads = MODULE_HEADS if width >= _WITH_CATEGORY else MODULE_HEADS[:-1]
        table = ruled(*(names(head) if head in ("module", "mostly") else numbers(head) for head in heads))
        for moved in modules:
            table.add_row(*(literal(cell) for cell in module_cells(moved)[: len(heads)]))
        yield Group(Text("In which modules", "bold"), table)


def _cause(verdict: CheckResult) -> str:
    """Return the row and the module that grew most."""
    grown = [change for change in verdict.rows if change.growth > 0][:1]
    rows = [f"{CATEGORY_LABELS[change.category]} {_change(change.growth)}" for change in grown]
    moved = [change for change in verdict.modules if change.growth > 0][:1]
    modules = [f"in {module_name(change)} {_change(change.growth)}, {_mostly(change)}" for change in moved]
    causes = "; ".join([*rows, *modules])
    return f". Grew most: {causes}" if causes else ""


def _largest(verdict: CheckResult) -> str:
    """Return what grew, or where nothing is there to compare with, what is largest."""
    if verdict.rows:
        return _cause(verdict)
    made = verdict.result.breakdown
    if made is None:
        return ""
    beside = (Category.CONTEXT, Category.FREE)
    row = max((row for row in made.rows if row.category not in beside), key=lambda row: row.bytes)
    largest = [f"Largest: {CATEGORY_LABELS[row.category]} {format_bytes(row.bytes)}"]
    inside = {share.path.rpartition(".")[0] for share in made.modules}
    parts = [share for share in made.modules if share.path and share.path not in inside]
    if parts:
        share = max(parts, key=lambda share: share.bytes)
        largest.append(f"of all modules {share.path} {format_bytes(share.bytes)}")
    return f". {'; '.join(largest)}"


def _taking(verdict: CheckResult) -> str:
    if verdict.peak is None:
        return ""
    return f"; with room enough it would reserve {format_bytes(verdict.peak.reserved_bytes)}{_largest(verdict)}"


def _mostly(change: ModuleChange) -> str:
    return f"mostly {CATEGORY_LABELS[change.category]}"


def _both(peak: PeakMemory) -> str:
    return f"{format_bytes(peak.reserved_bytes)} reserved, {format_bytes(peak.allocated_bytes)} allocated"


def _change(growth: int) -> str:
    return f"{'+' if growth > 0 else ''}{format_bytes(growth)}"
