"""Choose the sizes to time, and summarize their timed steps: the fastest size, and the knee below it.

The median of the steps stands for a size, and the quartiles for its spread, so that a step that the system delays moves
neither. All times are measured, never predicted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import median

from vram_cli.records import BatchSizes, Throughput, ThroughputPoint

KNEE_TOLERANCE = 0.05
"""The knee is at most this fraction slower than the fastest size."""


def sizes_to_time(
    smallest: int, largest: int, others: Iterable[int | None] = (), accepted: BatchSizes | None = None
) -> tuple[int, ...]:
    """Return in ascending order the smallest size, powers of two above it, the largest, and others between them.

    Instead of a power of two that the training does not accept, the next smaller size that it does.

    Raises:
        ValueError: the smallest is below 1 or above the largest.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"sizes from {smallest} to {largest}")
    accepted = accepted or BatchSizes()
    powers = (accepted.floor(1 << power) for power in range(largest.bit_length()))
    between = {size for size in (*powers, *others) if size is not None and smallest < size < largest}
    return (smallest, *sorted(between), *((largest,) if largest > smallest else ()))


def throughput_point(batch_size: int, accumulation_steps: int, seconds: Sequence[float]) -> ThroughputPoint:
    """Return the throughput of a size from the seconds of each of its steps.

    Raises:
        ValueError: there are no steps, or a step took no time.
    """
    if not seconds or min(seconds) <= 0:
        raise ValueError("throughput needs at least one step, and each takes time")
    samples, middle, ordered = batch_size * accumulation_steps, median(seconds), sorted(seconds)
    outside = len(seconds) // 4  # quartiles are steps, not interpolated: at least half of all steps are between them
    fast, slow = ordered[outside], ordered[-1 - outside]
    return ThroughputPoint(
        batch_size=batch_size,
        samples=samples,
        steps=len(seconds),
        step_seconds=middle,
        samples_per_second=samples / middle,
        q25=samples / slow,
        q75=samples / fast,
    )


def throughput_of(points: Collection[ThroughputPoint], sizes: int) -> Throughput | None:
    """Return the fastest size and the knee; None if nothing was timed.

    Of two equally fast sizes, the smaller one is the fastest.

    Args:
        points: one for each timed size.
        sizes: the number of sizes that were to be timed.
    """
    if not points:
        return None
    ascending = sorted(points, key=lambda point: point.batch_size)
    fastest = max(ascending, key=lambda point: point.samples_per_second)
    threshold = (1 - KNEE_TOLERANCE) * fastest.samples_per_second
    return Throughput(
        points=tuple(ascending),
        sizes=sizes,
        fastest_batch_size=fastest.batch_size,
        knee_batch_size=next(point.batch_size for point in ascending if point.samples_per_second >= threshold),
        knee_tolerance=KNEE_TOLERANCE,
        tied_with_fastest=tuple(
            point.batch_size for point in ascending if point is not fastest and point.q75 >= fastest.q25
        ),
    )
