"""What the measured peaks say of sizes that have not run: lines through them, and no more than that.

A training step's peak is max(forward and backward: a + b * n, optimizer: c), so a line through the total is blind while
the optimizer's step is the highest; each phase has a line of its own. Lines go through *allocated* bytes, which grow
smoothly; what runs out is *reserved* bytes, which grow in lumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from vram_cli.results import Measurement, Phase

# PyTorch's caching allocator takes 2 MiB for small blocks, 20 MiB for medium ones and multiples of 2 MiB above
# (c10/core/AllocatorConfig.h: kSmallBuffer, kLargeBuffer, kRoundLarge). No lump is larger than this.
_LARGEST_LUMP_BYTES = 20 * 2**20

_GROWING = (Phase.BATCH, Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True)
class Forecast:
    """What the lines say; extrapolated, never measured."""

    largest: int
    """The largest size that stays within the capacity."""
    lump: int
    """How many samples one lump of reserved memory holds; at least 1."""


def forecast(fitting: Sequence[Measurement], capacity_bytes: int | None) -> Forecast | None:
    """Draw a line for each phase through two of the fitting trials; None where they show no limit.

    Args:
        fitting: in order of batch size, each size once.
        capacity_bytes: what the allocator may reserve.
    """
    if capacity_bytes is None or len(fitting) < 2:
        return None
    base, top = _ends_of_line(fitting, capacity_bytes)
    lump_bytes = gcd(_LARGEST_LUMP_BYTES, *(trial.peak_reserved_bytes for trial in fitting))
    # Full lumps between reserved and allocated are fragmentation and stay; less than a lump is rounding.
    lost = (top.peak_reserved_bytes - top.peak_allocated_bytes) // lump_bytes * lump_bytes
    limit_bytes = capacity_bytes // lump_bytes * lump_bytes - lost
    samples = top.batch_size - base.batch_size
    lines = []
    for peak in top.peaks:
        before = base.peak_in(peak.phase)
        growth = peak.allocated_bytes - before.allocated_bytes if before else 0
        if growth > 0:
            largest = top.batch_size + (limit_bytes - peak.allocated_bytes) * samples // growth
            lines.append(Forecast(max(largest, 0), max(lump_bytes * samples // growth, 1)))
        elif peak.allocated_bytes > limit_bytes:
            lines.append(Forecast(0, 1))
    return min(lines, key=lambda line: line.largest, default=None)


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


class Stride:
    """How to step where the forecast points at a size that has been tried: away from it, faster while it errs."""

    def __init__(self) -> None:
        self._errors = 0
        """Surprises in a row: above 0 where sizes fitted against the forecast, below 0 where they failed."""

    def learn(self, *, expected: bool, fitted: bool) -> None:
        """Compare how a trial went with what the forecast said of it."""
        if expected == fitted:
            self._errors = 0
        elif fitted:
            self._errors = max(self._errors, 0) + 1
        else:
            self._errors = min(self._errors, 0) - 1

    def aim(self, target: int, lump: int, fits: int, fails: int) -> int:
        """Return `target` where it lies between `fits` and `fails`, else a step in from the end, at most halfway.

        One above `fits` is the first step up: where the forecast is right, it proves it. Down, it is an eighth of the
        bracket or a lump, the larger: a forecast that failed has erred by some share of what it reached over.
        """
        middle = (fits + fails) // 2
        faster = 1 << 2 * max(abs(self._errors) - 1, 0)
        if target >= fails:
            return max(fails - max(lump, (fails - fits) // 8) * faster, middle, fits + 1)
        if target <= fits:
            return max(min(fits + (lump * faster // 4 if self._errors > 1 else 1), middle), fits + 1)
        return target


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
