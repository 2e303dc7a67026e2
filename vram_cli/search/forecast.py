"""Predict from measured peaks which sizes fit: lines through two trials, extrapolated.

The peak of a training step is max(forward and backward: a + b * n, optimizer: c), so a line through the total shows
nothing while the optimizer step dominates; each phase gets its own line. Lines go through *allocated* bytes, which grow
smoothly. The bytes that run out are *reserved* bytes, which grow in large steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, isqrt

from vram_cli.records import Measurement, Phase
from vram_cli.search.trial_budget import BEYOND

# PyTorch's caching allocator reserves 2 MiB for small blocks, 20 MiB for medium ones and multiples of 2 MiB for larger
# ones (c10/core/AllocatorConfig.h: kSmallBuffer, kLargeBuffer, kRoundLarge). No granularity is larger than this.
_MAX_GRANULARITY_BYTES = 20 * 2**20

_GROWING = (Phase.BATCH, Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True)
class Forecast:
    """The sizes that the lines predict; extrapolated, never measured."""

    largest: int
    """The largest size within the capacity."""
    bound: int
    """The largest size that can fit, judged by the shortfall of the failed trial; `BEYOND` if that is unknown."""
    granularity: int
    """Samples per allocation granule of reserved memory; at least 1."""


def forecast(
    successful: Sequence[Measurement], capacity_bytes: int | None, failed: Measurement | None = None
) -> Forecast | None:
    """Draw a line for each phase through two successful trials; None if they show no limit.

    Args:
        successful: trials that fit, in order of batch size, one per size.
        capacity_bytes: bytes that the allocator may reserve.
        failed: the smallest trial that ran out of memory; its shortfall says how far below it the limit is.
    """
    if capacity_bytes is None or len(successful) < 2:
        return None
    base, top = _ends_of_line(successful, capacity_bytes)
    granularity_bytes = granularity_of(successful)
    # An allocator that released its cache to go on loses nothing: what tensors hold decides.
    lost = [0 if top.thrashing else lost_bytes(trial, granularity_bytes) for trial in (base, top)]
    limit_bytes = capacity_bytes // granularity_bytes * granularity_bytes - lost[1]
    samples = top.batch_size - base.batch_size
    lines = []
    for peak in top.peaks:
        base_peak = base.peak_in(peak.phase)
        growth = peak.allocated_bytes - base_peak.allocated_bytes if base_peak else 0
        if growth > 0:
            growth += max(lost[1] - lost[0], 0)
            lines.append((top.batch_size + (limit_bytes - peak.allocated_bytes) * samples // growth, growth))
        elif peak.allocated_bytes > limit_bytes:
            return Forecast(0, BEYOND, 1)
    if not lines:
        return None
    largest, growth = min(lines)
    bound = BEYOND
    # The limit excludes the bytes that the allocator lost in a successful trial: the failed one lost as many.
    if failed and (missing := failed.shortfall_bytes(limit_bytes)):
        # A shortfall beyond the line is memory that no peak shows, such as a kernel's scratch.
        unseen = missing - (failed.batch_size - largest) * growth // samples
        growth += max(unseen, 0) * samples // failed.batch_size
        bound = failed.batch_size - 1 - missing * samples // growth
    return Forecast(max(largest, 0), bound, max(granularity_bytes * samples // growth, 1))


def proportional(trial: Measurement, capacity_bytes: int | None) -> int:
    """Return a size that fits if memory grows at most in proportion to the batch, judged by one trial; 0 if unknown.

    Every moment of a step holds c + b * n bytes, so n samples take at most n times the bytes of one. Half the resident
    bytes are not multiplied: parameters and optimizer state are alive at every moment, and together they are at least
    as large as the gradients, which are not.
    """
    growing = [peak.allocated_bytes for phase in _GROWING if (peak := trial.peak_in(phase))]
    if capacity_bytes is None or not growing:
        return 0
    used = max(growing) + max(trial.peak_reserved_bytes - trial.peak_allocated_bytes, 0)
    growth = max(used - trial.resident_bytes // 2, 1)
    return trial.batch_size * max((capacity_bytes - used) // growth, 0)


def next_size(lines: Forecast, largest_ok: int, smallest_failed: int) -> int:
    """Return the size between `largest_ok` and `smallest_failed` to try next.

    That is the bound if it is below the lines: it includes memory that no line shows. A bound that excludes no more
    than the failed size is ignored: going down one by one would take as many trials.
    """
    target = lines.bound if lines.bound < smallest_failed - 1 else lines.largest
    return choose_next(min(target, lines.largest), lines.granularity, largest_ok, smallest_failed)


def choose_next(target: int, granularity: int, largest_ok: int, smallest_failed: int) -> int:
    """Return `target` if it is between the two sizes, else a step in from the nearer end, at most halfway.

    Upwards, the first step is 1: if the forecast is right, that proves it. Downwards, it is an eighth of the distance
    that the forecast jumped, or one granule. Later steps grow with the error of the forecast so far.
    """
    middle = (largest_ok + smallest_failed) // 2
    if target >= smallest_failed:
        error, reach = target - smallest_failed, target - largest_ok
        step = max(isqrt(error * reach), reach // 8, granularity)
        return max(min(target - step, smallest_failed - 1), middle, largest_ok + 1)
    if target <= largest_ok:
        error = largest_ok - target
        step = max(4 * error, granularity) if error else 1
        return max(min(largest_ok + step, middle), largest_ok + 1)
    return target


def granularity_of(trials: Sequence[Measurement]) -> int:
    """Return the bytes of which the allocator reserves multiples, as far as the trials show."""
    return gcd(_MAX_GRANULARITY_BYTES, *(trial.peak_reserved_bytes for trial in trials))


def lost_bytes(trial: Measurement, granularity_bytes: int) -> int:
    """Return the whole granules between reserved and allocated: fragmentation and workspaces. The rest is rounding."""
    return (trial.peak_reserved_bytes - trial.peak_allocated_bytes) // granularity_bytes * granularity_bytes


def _ends_of_line(successful: Sequence[Measurement], capacity_bytes: int) -> tuple[Measurement, Measurement]:
    """Return the two trials on either side of the capacity, else the largest and the nearest an eighth below it.

    Peaks are slightly convex in the batch, so near points predict best; points that are nearer still would make a slope
    of the rounding of single tensors to 512 bytes.
    """
    above = [trial for trial in successful[1:] if trial.peak_reserved_bytes > capacity_bytes]
    if above:
        return successful[successful.index(above[0]) - 1], above[0]
    top = successful[-1]
    below = (trial for trial in reversed(successful) if 8 * trial.batch_size <= 7 * top.batch_size)
    return next(below, successful[0]), top
