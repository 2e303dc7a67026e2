"""The verdict on the peak memory of a training.

Limits apply to reserved memory, because it is what runs out. Against a baseline, allocated memory is compared as well:
the allocator reserves blocks of 2 and 20 MiB, which may hide growth that shows at another batch size.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from vram_cli.commands.check.changes import OUTSIDE_ALLOCATOR, module_changes, row_changes
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
    """Return the limits that a result breaks, and its changes since the baseline.

    Args:
        result: a breakdown with modules, or a trial that ran out of memory.
        limits: the allowed peak and growth.
        baseline: an earlier, comparable result (see `comparable_baseline`); None for no comparison.
        baseline_name: the baseline's file.
    """
    peak, baseline_peak = peak_of(result), peak_of(baseline) if baseline else None
    findings = [*_misfit(result, peak), *_above(peak, limits), *_grown(peak, baseline_peak, limits)]
    old, new = baseline.breakdown if baseline else None, result.breakdown
    return CheckResult(
        result=result,
        limits=limits,
        peak=peak,
        baseline_name=baseline_name,
        baseline_peak=baseline_peak,
        findings=tuple(sorted(findings, key=_rank)),
        rows=row_changes(old, new) if old and new else (),
        modules=module_changes(old, new) if old and new else (),
        remarks=tuple(_remarks(result, baseline, peak, baseline_peak, limits)),
    )


def peak_of(result: BreakdownResult) -> PeakMemory | None:
    """Return the peak of the trial, or that of its breakdown if it did not fit; None if neither is known."""
    trial, breakdown = result.measurement, result.breakdown
    if trial.fits:
        return PeakMemory(reserved_bytes=trial.peak_reserved_bytes, allocated_bytes=trial.peak_allocated_bytes)
    if breakdown is None:
        return None
    reserved = breakdown.total_bytes - sum(breakdown.bytes_of(category) for category in OUTSIDE_ALLOCATOR)
    return PeakMemory(reserved_bytes=reserved, allocated_bytes=breakdown.tensor_bytes)


def _rank(finding: Finding) -> tuple[bool, int]:
    return finding.kind is not FindingKind.DOES_NOT_FIT, -finding.excess_bytes


def _misfit(result: BreakdownResult, peak: PeakMemory | None) -> Iterator[Finding]:
    if result.measurement.outcome is Outcome.OUT_OF_MEMORY:
        capacity, breakdown = result.run.device.capacity_bytes, result.breakdown
        needed = peak.reserved_bytes + breakdown.bytes_of(Category.CONTEXT) if peak and breakdown else 0
        # The allocator releases its cache before it fails, so the sum may be below the capacity.
        missing = max(needed - capacity, result.shortfall_bytes or 1)
        yield Finding(kind=FindingKind.DOES_NOT_FIT, bytes=capacity + missing, allowed_bytes=capacity)


def _above(peak: PeakMemory | None, limits: CheckLimits) -> Iterator[Finding]:
    most = limits.max_memory_bytes
    if peak is not None and most is not None and peak.reserved_bytes > most:
        yield Finding(kind=FindingKind.ABOVE_LIMIT, bytes=peak.reserved_bytes, allowed_bytes=most)


def _grown(peak: PeakMemory | None, baseline_peak: PeakMemory | None, limits: CheckLimits) -> Iterator[Finding]:
    if peak is None or baseline_peak is None:
        return
    counters = (
        ("reserved", baseline_peak.reserved_bytes, peak.reserved_bytes),
        ("allocated", baseline_peak.allocated_bytes, peak.allocated_bytes),
    )
    for counter, old, new in counters:
        allowed = old + _part(old, limits.tolerance)
        if new > allowed:
            yield Finding(
                kind=FindingKind.GREW, counter=counter, bytes=new, allowed_bytes=allowed, baseline_bytes=old
            )  # fmt: skip
            return


def _part(size: int, share: float) -> int:
    # Exact: 0.29 * 100 is 28.999999999999996 as a float.
    return int(size * Fraction(str(share)))


def _remarks(
    result: BreakdownResult,
    baseline: BreakdownResult | None,
    peak: PeakMemory | None,
    baseline_peak: PeakMemory | None,
    limits: CheckLimits,
) -> Iterator[str]:
    if result.measurement.thrashing:
        yield "it ran only because the allocator released its cache during the step: it thrashes"
    if baseline is None or peak is None or baseline_peak is None:
        return
    if changes := config_changes(result.run, baseline.run):
        yield f"the config changed since the baseline: {'; '.join(changes)}"
    if baseline_peak.reserved_bytes - peak.reserved_bytes > _part(baseline_peak.reserved_bytes, limits.tolerance):
        shrunk = format_bytes(baseline_peak.reserved_bytes - peak.reserved_bytes)
        yield f"the peak shrank by {shrunk}: run with --update-baseline, so that it cannot grow back unnoticed"
    if baseline.breakdown is None or result.breakdown is None:
        yield "only the peaks are compared: one of the two has no breakdown"
    elif baseline.breakdown.peak_phase is not result.breakdown.peak_phase:
        was, now = baseline.breakdown.peak_phase.value, result.breakdown.peak_phase.value
        yield f"the peak was in {was} and is now in {now}: the rows compare two different moments of the step"
