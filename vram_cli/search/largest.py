"""The entry point of the search."""

from __future__ import annotations

import time
from collections.abc import Callable

from vram_cli.errors import Interrupted
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Bracket, Certificate, Limit, Outcome, SearchResult
from vram_cli.search.maximum import Maximum
from vram_cli.search.recommended import Recommended
from vram_cli.search.trials import Guess, Measure, Trials


def find_largest(
    measure: Measure,
    *,
    capacity_bytes: int | None = None,
    margin_bytes: int = 0,
    upper_bound: int | None = None,
    upper_bound_limit: Limit = Limit.MAX_BATCH_SIZE,
    tolerance: float = 0.0,
    multiple_of: int | None = 8,
    only_multiples_of: int = 1,
    configured_size: int | None = None,
    time_limit: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    confirm: Measure | None = None,
    initial_guess: Guess = lambda: None,
    progress: Progress = SILENT,
) -> SearchResult:
    """Find the largest batch size that fits, and prove it by trials.

    Args:
        measure: tries one batch size and returns its measurement, or just a bool (False: out of memory).
        capacity_bytes: bytes that the allocator may reserve. If given, measured peaks guide the search; without it, or
            if `measure` returns bools, the search is doubling and bisection.
        margin_bytes: bytes of `capacity_bytes` that the recommended size must leave free.
        upper_bound: the largest size that may be tried.
        upper_bound_limit: the limit that the result names if `upper_bound` stops the search.
        tolerance: the fraction by which a larger, untried size may still fit; 0 is exact.
        multiple_of: the recommended size is a multiple of it; None skips the recommended size.
        only_multiples_of: no other sizes are tried, and none is recommended.
        configured_size: a size for which the training is written. If the smallest sizes raise an error, this one is
            tried, and then its divisors.
        time_limit: seconds after which no further trial starts.
        clock: a monotonic clock in seconds.
        confirm: runs the answer again from a clean state; a size that fails there is not the answer.
        initial_guess: returns the size to jump to first, such as a prediction; called once, after the smallest size has
            run. A wrong guess costs trials, but never makes the answer wrong.
        progress: receives every trial.

    Raises:
        Interrupted: Ctrl-C; `partial` is the `SearchResult` so far, with `limited_by` None.
        TypeError: `measure` returned neither a Measurement nor a bool.
        ValueError: an argument is out of range, or a measurement has another size or fits without a step.
    """
    unit = 1 if multiple_of is None else multiple_of
    if min(unit, only_multiples_of) < 1 or tolerance < 0 or margin_bytes < 0:
        raise ValueError("multiples must be at least 1, tolerance and margin_bytes at least 0")
    if upper_bound is not None and upper_bound < only_multiples_of:
        raise ValueError("upper_bound must be at least 1, and at least only_multiples_of")
    deadline = None if time_limit is None else clock() + time_limit
    trials = Trials(measure, deadline, clock, progress, only_multiples_of)
    maximum = Maximum(
        trials,
        capacity_bytes=capacity_bytes,
        upper_bound=upper_bound,
        upper_bound_limit=upper_bound_limit,
        tolerance=tolerance,
        initial_guess=initial_guess,
        configured_size=configured_size,
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
    bracket = trials.proof()
    return SearchResult(
        max_batch_size=bracket.largest_ok or None,
        recommended_batch_size=recommended,
        limited_by=limit,
        certificate=_certificate(trials, bracket),
        trials=tuple(trials.history),
        extrapolated_batch_size=extrapolated,
        accepted_sizes=trials.accepted,
        refused=trials.refused(),
        notes=(*trials.notes, *_notes(trials, bracket, limit)),
    )


def _certificate(trials: Trials, bracket: Bracket) -> Certificate | None:
    if not bracket.largest_ok:
        return None
    steps = trials.by_size[bracket.largest_ok].steps
    if bracket.smallest_failed is None:
        return Certificate(largest_ok=bracket.largest_ok, steps=steps)
    failed = trials.by_size[bracket.smallest_failed]
    return Certificate(
        largest_ok=bracket.largest_ok,
        steps=steps,
        smallest_failed=bracket.smallest_failed,
        outcome=failed.outcome,
        phase=failed.phase,
        rank=failed.rank,
        message=failed.message,
    )


def _notes(trials: Trials, bracket: Bracket, limit: Limit | None) -> list[str]:
    """Return one sentence about each peculiarity of the search."""
    largest_ok, smallest_failed = bracket.largest_ok, bracket.smallest_failed
    notes = []
    if largest_ok and (refusal := _refusal(trials)):
        notes.append(refusal)
    if largest_ok and trials.by_size[largest_ok].thrashing:
        notes.append(
            f"batch size {largest_ok} ran only because the allocator released its cache to continue: it thrashes"
        )
    if smallest_failed and trials.by_size[smallest_failed].outcome is Outcome.KILLED:
        notes.append(f"the process of batch size {smallest_failed} was killed twice, which is taken as too little RAM")
    is_closed = limit not in (None, Limit.TIME)
    following = trials.accepted.floor((smallest_failed or 1) - 1)
    if is_closed and largest_ok and smallest_failed and following > largest_ok and following not in trials.raised:
        notes.append(f"sizes between {largest_ok} and {smallest_failed} are within the tolerance and were not tried")
    return notes


def _refusal(trials: Trials) -> str:
    """Return which sizes the training refuses, in its own words; "" if none that was tried."""
    refused, accepted = trials.refused(), trials.accepted
    if refused and not accepted.are_all:
        return f"of the sizes tried, only {accepted} ran: batch size {refused.batch_size} raised {refused.message}"
    if refused:
        return f"batch size {refused.batch_size} raised an error, which is not the limit: {refused.message}"
    first = trials.successful()[0].batch_size
    below = sorted(size for size in trials.raised if size < first)
    if not below:
        return ""
    sizes = "size " + str(below[0]) if len(below) == 1 else "sizes " + ", ".join(map(str, below))
    message = trials.by_size[below[-1]].message
    return f"batch {sizes} raised an error, so the search began at {first}: {message}"
