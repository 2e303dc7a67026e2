"""Which sizes are worth timing, and what their timed steps say: the fastest size, and the knee below it.

The median of the steps stands for a size, and the quartiles for its spread: a step that the system held up moves
neither. Seconds, never predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import median

from vram_cli.records import Throughput, ThroughputPoint

WITHIN = 0.05
"""The knee is at most this share slower than the fastest size."""


def sizes_to_time(smallest: int, largest: int, others: Iterable[int | None] = ()) -> tuple[int, ...]:
    """Return the smallest size, the powers of two above it, the largest, and others that lie between; rising.

    Raises:
        ValueError: the smallest is below 1 or above the largest.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"sizes from {smallest} to {largest}")
    powers = (1 << power for power in range(largest.bit_length()))
    between = {size for size in (*powers, *others) if size is not None and smallest < size < largest}
    return (smallest, *sorted(between), *((largest,) if largest > smallest else ()))


def pace_of(batch_size: int, accumulate: int, seconds: Sequence[float]) -> ThroughputPoint:
    """Return how fast a size trains, of the seconds of each of its steps.

    Raises:
        ValueError: there are no steps, or one took no time.
    """
    if not seconds or min(seconds) <= 0:
        raise ValueError("a pace is that of at least one step, and each takes time")
    samples, middle, ordered = batch_size * accumulate, median(seconds), sorted(seconds)
    beside = len(seconds) // 4  # steps of their own, not between two: at least half of all are from one to the other
    fast, slow = ordered[beside], ordered[-1 - beside]
    return ThroughputPoint(
        batch_size=batch_size,
        samples=samples,
        steps=len(seconds),
        step_seconds=middle,
        samples_per_second=samples / middle,
        low=samples / slow,
        high=samples / fast,
    )


def throughput_of(paces: Collection[ThroughputPoint], sizes: int) -> Throughput | None:
    """Return which size is fastest and where the knee is; None where nothing was timed.

    Of two that are equally fast, the smaller one is the fastest.

    Args:
        paces: of the sizes that were timed.
        sizes: how many were to be timed.
    """
    if not paces:
        return None
    rising = sorted(paces, key=lambda pace: pace.batch_size)
    best = max(rising, key=lambda pace: pace.samples_per_second)
    enough = (1 - WITHIN) * best.samples_per_second
    return Throughput(
        paces=tuple(rising),
        sizes=sizes,
        fastest_batch_size=best.batch_size,
        knee_batch_size=next(pace.batch_size for pace in rising if pace.samples_per_second >= enough),
        within=WITHIN,
        as_fast=tuple(pace.batch_size for pace in rising if pace is not best and pace.high >= best.low),
    )
