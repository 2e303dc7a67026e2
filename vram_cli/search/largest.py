"""The one function of this room, and what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable

from vram_cli.errors import Interrupted
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Bracket, Certificate, Limit, Outcome, SearchResult
from vram_cli.search.maximum import Maximum
from vram_cli.search.recommended import Recommended
from vram_cli.search.trials import Expected, Measure, Trials


def find_largest(
    measure: Measure,
    *,
    capacity_bytes: int | None = None,
    margin_bytes: int = 0,
    cap: int | None = None,
    cap_limit: Limit = Limit.MAX_BATCH_SIZE,
    tolerance: float = 0.0,
    multiple_of: int | None = 8,
    time_limit: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    confirm: Measure | None = None,
    expected: Expected = lambda: None,
    progress: Progress = SILENT,
) -> SearchResult:
    """Find the largest batch size that fits, proved by trials.

    Args:
        measure: tries one batch size and says how it went; a plain bool will do (False: out of memory).
        capacity_bytes: what the allocator may reserve. With it, measured peaks guide the search; without it, or with
            bools, the search is doubling and bisection.
        margin_bytes: what the recommended size must leave free of `capacity_bytes`.
        cap: the largest size that may be tried.
        cap_limit: what the result calls that cap.
        tolerance: the share of the answer by which an untried size may be larger; 0 is exact.
        multiple_of: what the recommended size must be a multiple of; None looks for none.
        time_limit: seconds after which no further trial is started.
        clock: seconds, rising.
        confirm: runs the answer once more, in a fresh state; a size that fails there is not the answer.
        expected: says where to jump first, such as to a prediction; asked once, after the smallest size has run.
            It may be wrong: that costs trials, and never the truth.
        progress: receives every trial.

    Raises:
        Interrupted: Ctrl-C; `partial` is the `SearchResult` so far, with `limited_by` None.
        TypeError: `measure` returned neither a Measurement nor a bool.
        ValueError: an argument is out of range, or a measurement is of another size or claims to fit without a step.
    """
    unit = 1 if multiple_of is None else multiple_of
    if (cap is not None and cap < 1) or unit < 1 or tolerance < 0 or margin_bytes < 0:
        raise ValueError("cap and multiple_of must be at least 1, tolerance and margin_bytes at least 0")
    trials = Trials(measure, None if time_limit is None else clock() + time_limit, clock, progress)
    maximum = Maximum(
        trials, capacity_bytes=capacity_bytes, cap=cap, cap_limit=cap_limit, tolerance=tolerance, expected=expected
    )
    recommended = Recommended(trials, None if capacity_bytes is None else capacity_bytes - margin_bytes, unit)
    try:
        limit = maximum.find(confirm)
        if multiple_of is not None:
            recommended.find()
    except KeyboardInterrupt:
        raise Interrupted(_result(trials, None, None, recommended.size)) from None
    return _result(trials, limit, maximum.extrapolated(limit), recommended.size)


def _result(trials: Trials, limit: Limit | None, extrapolated: int | None, recommended: int | None) -> SearchResult:
    bracket = trials.bracket()
    return SearchResult(
        max_batch_size=bracket.fits or None,
        recommended_batch_size=recommended,
        limited_by=limit,
        certificate=_certificate(trials, bracket),
        trials=tuple(trials.ran),
        extrapolated_batch_size=extrapolated,
        notes=(*trials.notes, *_remarks(trials, bracket, limit)),
    )


def _certificate(trials: Trials, bracket: Bracket) -> Certificate | None:
    if not bracket.fits:
        return None
    steps = trials.verdicts[bracket.fits].steps
    if bracket.fails is None:
        return Certificate(fits=bracket.fits, steps=steps)
    failed = trials.verdicts[bracket.fails]
    return Certificate(
        fits=bracket.fits,
        steps=steps,
        fails=bracket.fails,
        outcome=failed.outcome,
        phase=failed.phase,
        message=failed.message,
    )


def _remarks(trials: Trials, bracket: Bracket, limit: Limit | None) -> list[str]:
    """Return a sentence on each thing that a reader of the numbers should know."""
    remarks = []
    first = trials.verdicts.get(1)
    if bracket.fits and first and first.outcome is Outcome.ERROR:
        remarks.append(f"batch size 1 raised an error, so the search began at 2: {first.message}")
    if bracket.fits and trials.verdicts[bracket.fits].thrashing:
        remarks.append(
            f"batch size {bracket.fits} ran only because the allocator gave its cache back on the way: it thrashes"
        )
    if bracket.fails and trials.verdicts[bracket.fails].outcome is Outcome.KILLED:
        remarks.append(f"the process of batch size {bracket.fails} was killed twice; that is read as too little RAM")
    if limit not in (None, Limit.TIME) and bracket.fails and bracket.fails - bracket.fits > 1 and bracket.fits:
        remarks.append(f"sizes between {bracket.fits} and {bracket.fails} lie within the tolerance and were not tried")
    return remarks
