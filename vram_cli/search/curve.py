"""Predict which sizes fit if memory grows faster than the batch: parabolas through three trials.

A loss that compares every sample with every other takes memory in proportion to the square of the batch. A parabola
through each phase follows that, and whatever else is smooth (n log n), as soon as the trials are near the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

from vram_cli.records import Measurement, Phase
from vram_cli.search.forecast import granularity_of, lost_bytes

_CONVEX = 1.1
"""Memory that grows by this factor faster from one trial to the next than before is on no line."""


def largest_on_curve(successful: Sequence[Measurement], capacity_bytes: int) -> int | None:
    """Return the largest size within the capacity on the parabolas; None if no phase grows faster than the batch.

    Args:
        successful: trials that fit, in order of batch size, one per size.
        capacity_bytes: bytes that the allocator may reserve.
    """
    calm = [trial for trial in successful if not trial.thrashing]
    if len(calm) < 2:
        return None
    granularity_bytes = granularity_of(calm)
    limit_bytes = capacity_bytes // granularity_bytes * granularity_bytes
    trials = _spread(calm)
    curves = [
        _largest(
            [(size, trial, lost_bytes(trial, granularity_bytes)) for size, trial in trials], peak.phase, limit_bytes
        )
        for peak in trials[-1][1].peaks
    ]
    return min((size for size in curves if size is not None), default=None)


def _spread(trials: Sequence[Measurement]) -> list[tuple[int, Measurement]]:
    """Return the largest trial and two smaller ones, each a quarter below the last, with their places on the parabola.

    Without a third trial, the parabola is the one that is flat at 0: the second trial counts on either side of it.
    """
    spread = [trials[-1]]
    for trial in reversed(trials):
        if len(spread) < 3 and 4 * trial.batch_size <= 3 * spread[-1].batch_size:
            spread.append(trial)
    places = [(trial.batch_size, trial) for trial in reversed(spread)]
    return [(-places[0][0], places[0][1]), *places] if len(places) == 2 else places


def _largest(trials: Sequence[tuple[int, Measurement, int]], phase: Phase, limit_bytes: int) -> int | None:
    """Return the largest size on the parabola of one phase; None if it is no parabola that opens upwards."""
    points = [(size, peak.allocated_bytes + lost) for size, trial, lost in trials if (peak := trial.peak_in(phase))]
    if len(points) < 3:
        return None
    (x0, y0), (x1, y1), (x2, y2) = points
    before, after = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    if after <= max(_CONVEX * before, 0):
        return None
    # In Newton's form: y2 + after * d + curvature * d * (d + x2 - x1) at x2 + d.
    curvature = (after - before) / (x2 - x0)
    slope, free = after + curvature * (x2 - x1), limit_bytes - y2
    if free <= 0:
        return x2
    return x2 + int(2 * free / (slope + isqrt(int(slope * slope + 4 * curvature * free))))
