"""Whether a training's peak memory breaks a limit: records in, a verdict out.

What is gated is what the allocator reserves, because that runs out. What tensors hold is gated against a baseline as
well: reserved memory comes in lumps of 2 and 20 MiB, and a lump may hide today what another batch size shows tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from vram_cli.commands.check.changes import BESIDE, module_changes, row_changes
from vram_cli.commands.check.comparable import config_changes
from vram_cli.records import (
    BreakdownResult,
    Category,
    CheckLimits,
    CheckResult,
    Finding,
    FindingKind,
    Outcome,
    PeakMemory,
)
from vram_cli.units import format_bytes


def judge(
    result: BreakdownResult, limits: CheckLimits, baseline: BreakdownResult | None = None, baseline_name: str = ""
) -> CheckResult:
    """Return what is to be said of a result: which limits it breaks, and what changed since the baseline.

    Args:
        result: a breakdown with modules, or a trial that ran out of memory.
        limits: what is allowed.
        baseline: an earlier result of the same question (`comparable_baseline`); None compares with nothing.
        baseline_name: its file.
    """
    peak, before = peak_of(result), peak_of(baseline) if baseline else None
    found = [*_misfit(result, peak), *_above(peak, limits), *_grown(peak, before, limits)]
    then, now = baseline.breakdown if baseline else None, result.breakdown
    return CheckResult(
        result=result,
        limits=limits,
        peak=peak,
        baseline_name=baseline_name,
        baseline_peak=before,
        findings=tuple(sorted(found, key=_rank)),
        rows=row_changes(then, now) if then and now else (),
        modules=module_changes(then, now) if then and now else (),
        remarks=tuple(_remarks(result, baseline, peak, before, limits)),
    )


def peak_of(result: BreakdownResult) -> PeakMemory | None:
    """Return the peak of the trial, or that of its breakdown if it did not fit; None if neither is known."""
    trial, made = result.measurement, result.breakdown
    if trial.fits:
        return PeakMemory(reserved_bytes=trial.peak_reserved_bytes, allocated_bytes=trial.peak_allocated_bytes)
    if made is None:
        return None
    reserved = made.total_bytes - sum(made.bytes_of(category) for category in BESIDE)
    return PeakMemory(reserved_bytes=reserved, allocated_bytes=made.tensor_bytes)


def _rank(finding: Finding) -> tuple[bool, int]:
    return finding.kind is not FindingKind.DOES_NOT_FIT, -finding.excess_bytes


def _misfit(result: BreakdownResult, peak: PeakMemory | None) -> Iterator[Finding]:
    if result.measurement.outcome is Outcome.OUT_OF_MEMORY:
        capacity, made = result.run.device.capacity_bytes, result.breakdown
        needed = peak.reserved_bytes + made.bytes_of(Category.CONTEXT) if peak and made else 0
        # Short of room the allocator gives its cache back: the sum may be less than there is, and still it failed.
        missing = max(needed - capacity, result.shortfall_bytes or 1)
        yield Finding(kind=FindingKind.DOES_NOT_FIT, bytes=capacity + missing, allowed_bytes=capacity)


def _above(peak: PeakMemory | None, limits: CheckLimits) -> Iterator[Finding]:
    most = limits.max_memory_bytes
    if peak is not None and most is not None and peak.reserved_bytes > most:
        yield Finding(kind=FindingKind.ABOVE_LIMIT, bytes=peak.reserved_bytes, allowed_bytes=most)


def _grown(peak: PeakMemory | None, before: PeakMemory | None, limits: CheckLimits) -> Iterator[Finding]:
    if peak is None or before is None:
        return
    counters = (
        ("reserved", before.reserved_bytes, peak.reserved_bytes),
        ("allocated", before.allocated_bytes, peak.allocated_bytes),
    )
    for counter, then, now in counters:
        allowed = then + _part(then, limits.tolerance)
        if now > allowed:
            yield Finding(
                kind=FindingKind.GREW, counter=counter, bytes=now, allowed_bytes=allowed, before_bytes=then
            )  # fmt: skip
            return


def _part(size: int, share: float) -> int:
    # As the share is written: 29 % of 100 is 29, and 28.999999999999996 in binary fractions.
    return int(size * Fraction(str(share)))


def _remarks(
    result: BreakdownResult,
    baseline: BreakdownResult | None,
    peak: PeakMemory | None,
    before: PeakMemory | None,
    limits: CheckLimits,
) -> Iterator[str]:
    if result.measurement.thrashing:
        yield "it ran only because the allocator released its cache during the step: it thrashes"
    if baseline is None or peak is None or before is None:
        return
    if changes := config_changes(result.run, baseline.run):
        yield f"the config changed since the baseline: {'; '.join(changes)}"
    if before.reserved_bytes - peak.reserved_bytes > _part(before.reserved_bytes, limits.tolerance):
        shrunk = format_bytes(before.reserved_bytes - peak.reserved_bytes)
        yield f"the peak shrank by {shrunk}: run with --update-baseline, so that it cannot grow back unnoticed"
    if baseline.breakdown is None or result.breakdown is None:
        yield "only the peaks are compared: one of the two has no breakdown"
    elif baseline.breakdown.peak_phase is not result.breakdown.peak_phase:
        was, now = baseline.breakdown.peak_phase.value, result.breakdown.peak_phase.value
        yield f"the peak was in {was} and is now in {now}: the rows compare two different moments of the step"
