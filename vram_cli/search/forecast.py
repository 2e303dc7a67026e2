"""What the measured peaks say of sizes that have not run: lines through them, and no more than that.

A training step's peak is max(forward and backward: a + b * n, optimizer: c), so a line through the total is blind while
the optimizer's step is the highest; each phase has a line of its own. Lines go through *allocated* bytes, which grow
smoothly; what runs out is *reserved* bytes, which grow in lumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, isqrt

from vram_cli.records import Measurement, Phase
from vram_cli.search.trial_budget import BEYOND

# PyTorch's caching allocator takes 2 MiB for small blocks, 20 MiB for medium ones and multiples of 2 MiB above
# (c10/core/AllocatorConfig.h: kSmallBuffer, kLargeBuffer, kRoundLarge). No lump is larger than this.
_LARGEST_LUMP_BYTES = 20 * 2**20

_GROWING = (Phase.BATCH, Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True)
class Forecast:
    """What the lines say; extrapolated, never measured."""

    largest: int
    """The largest size that stays within the capacity."""
    bound: int
    """The largest size that can fit after what the failed trial was short of; `BEYOND` where that says nothing."""
    lump: int
    """How many samples one lump of reserved memory holds; at least 1."""


def forecast(
    fitting: Sequence[Measurement], capacity_bytes: int | None, failed: Measurement | None = None
) -> Forecast | None:
    """Draw a line for each phase through two of the fitting trials; None where they show no limit.

    Args:
        fitting: in order of batch size, each size once.
        capacity_bytes: what the allocator may reserve.
        failed: the smallest trial that ran out of memory. What it was short of, at least, says how far below it to go.
    """
    if capacity_bytes is None or len(fitting) < 2:
        return None
    base, top = _ends_of_line(fitting, capacity_bytes)
    lump_bytes = gcd(_LARGEST_LUMP_BYTES, *(trial.peak_reserved_bytes for trial in fitting))
    lost = [_lost_bytes(trial, lump_bytes) for trial in (base, top)]
    limit_bytes = capacity_bytes // lump_bytes * lump_bytes - lost[1]
    samples = top.batch_size - base.batch_size
    lines = []
    for peak in top.peaks:
        before = base.peak_in(peak.phase)
        growth = peak.allocated_bytes - before.allocated_bytes if before else 0
        if growth > 0:
            growth += max(lost[1] - lost[0], 0)
            lines.append((top.batch_size + (limit_bytes - peak.allocated_bytes) * samples // growth, growth))
        elif peak.allocated_bytes > limit_bytes:
            return Forecast(0, BEYOND, 1)
    if not lines:
        return None
    largest, growth = min(lines)
    bound = BEYOND
    # Of a limit that leaves out what the allocator lost in a trial that ran: the one that failed lost as much.
    if failed and (missing := failed.shortfall_bytes(limit_bytes)):
        # What is missing beyond what the line says is memory that no peak shows, such as a kernel's scratch.
        unseen = missing - (failed.batch_size - largest) * growth // samples
        growth += max(unseen, 0) * samples // failed.batch_size
        bound = failed.batch_size - 1 - missing * samples // growth
    return Forecast(max(largest, 0), bound, max(lump_bytes * samples // growth, 1))


def proportional(trial: Measurement, capacity_bytes: int | None) -> int:
    """Return a size that fits if memory grows at most in proportion to the batch, judged by one trial; 0 if unknown.

    Every moment of a step holds c + b * n bytes, so n samples take at most n times what one takes. Half the resident
    bytes are left out of that: parameters and optimizer state are there at every moment, and together they are never
    less than the gradients, which are not.
    """
    growing = [peak.allocated_bytes for phase in _GROWING if (peak := trial.peak_in(phase))]
    if capacity_bytes is None or not growing:
        return 0
    taken = max(growing) + max(trial.peak_reserved_bytes - trial.peak_allocated_bytes, 0)
    own = max(taken - trial.resident_bytes // 2, 1)
    return trial.batch_size * max((capacity_bytes - taken) // own, 0)


def next_size(said: Forecast, fits: int, fails: int) -> int:
    """Return the size to try next between `fits` and `fails`.

    The bound, where it lies below what the lines say: it knows of memory that no line shows. Not where it rules out no
    more than the size that failed: going down one by one would take as many trials.
    """
    target = said.bound if said.bound < fails - 1 else said.largest
    return aim(min(target, said.largest), said.lump, fits, fails)


def aim(target: int, lump: int, fits: int, fails: int) -> int:
    """Return `target` where it lies between `fits` and `fails`, else a step in from the end, at most halfway.

    Upwards, the first step is 1: where the forecast is right, that proves it. Downwards it is an eighth of what the
    forecast has reached over, or a lump. Further steps grow with how far the forecast is off already.
    """
    middle = (fits + fails) // 2
    if target >= fails:
        off, reach = target - fails, target - fits
        return max(min(target - max(isqrt(off * reach), reach // 8, lump), fails - 1), middle, fits + 1)
    if target <= fits:
        off = fits - target
        return max(min(fits + (max(4 * off, lump) if off else 1), middle), fits + 1)
    return target


def _lost_bytes(trial: Measurement, lump_bytes: int) -> int:
    """Return the whole lumps between reserved and allocated: fragmentation and workspaces. The rest is rounding."""
    return (trial.peak_reserved_bytes - trial.peak_allocated_bytes) // lump_bytes * lump_bytes


def _ends_of_line(fitting: Sequence[Measurement], capacity_bytes: int) -> tuple[Measurement, Measurement]:
    """Return the two trials on either side of the capacity, else the largest and the nearest an eighth below it.

    Peaks are a little convex in the batch, so near points say most; beyond them, points that are nearer still would
    make a slope of the rounding of single tensors to 512 bytes.
    """
    beyond = [trial for trial in fitting[1:] if trial.peak_reserved_bytes > capacity_bytes]
    if beyond:
        return fitting[fitting.index(beyond[0]) - 1], beyond[0]
    top = fitting[-1]
    below = (trial for trial in reversed(fitting) if 8 * trial.batch_size <= 7 * top.batch_size)
    return next(below, fitting[0]), top
