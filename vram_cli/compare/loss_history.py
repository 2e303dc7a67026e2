"""The losses of a training, and their noise."""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from statistics import fmean
from typing import NamedTuple

import torch

from vram_cli.compare.records import CurvePoint

MAX_CURVE_POINTS = 60
MIN_DIFFERENCES = 8
"""Differences of successive losses that an estimate of the noise needs."""


class Step(NamedTuple):
    """One optimizer step."""

    samples: int
    """Samples trained on by the end of the step."""
    batch_size: int
    """Size of the step's last batch."""
    loss: float
    """Loss of that batch."""


class LossHistory:
    """The losses of a training that will see `total` samples."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._steps: list[Step] = []
        self._pending: list[tuple[int, int, torch.Tensor]] = []
        self.samples = 0
        """Samples trained on so far."""
        self.diverged_at: int | None = None
        """The first step, counted from 1, with a loss that is not finite."""

    def add(self, samples: int, batch_size: int, loss: torch.Tensor) -> None:
        """Add a step over `samples`, with the size and the loss of its last batch; does not synchronize the device."""
        self.samples += samples
        self._pending.append((self.samples, batch_size, loss))

    def read(self) -> float:
        """Wait for the pending losses and return the last; it is not finite if training diverged."""
        if self._pending:
            losses = torch.stack([loss for _, _, loss in self._pending]).float().tolist()
            diverged = next((index for index, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
            if diverged is not None and self.diverged_at is None:
                self.diverged_at = len(self._steps) + diverged
            self._steps += [Step(*step[:2], loss) for step, loss in zip(self._pending, losses, strict=True)]
            self._pending.clear()
        return self._steps[-1].loss

    @property
    def steps(self) -> int:
        """Number of steps whose loss was read."""
        return len(self._steps)

    def curve(self) -> tuple[CurvePoint, ...]:
        """Return the mean finite loss over sections with equal numbers of samples."""
        finite = [step for step in self._steps if math.isfinite(step.loss)]
        sections = groupby(finite, key=lambda step: (step.samples - 1) * MAX_CURVE_POINTS // self._total)
        grouped = [list(steps) for _, steps in sections]
        return tuple(
            CurvePoint(samples=steps[-1].samples, loss=fmean(step.loss for step in steps)) for steps in grouped
        )

    def noise(self, batch_size: int) -> float | None:
        """Return the standard deviation of a batch's loss around its trend, over the second half of training.

        The estimate uses differences of successive losses, which a slow trend hardly affects: half their mean square is
        the variance (von Neumann et al. 1941, "The Mean Square Successive Difference"). Batches of another size, such
        as the last of an epoch, are left out. Return None if too few steps remain.
        """
        second_half = [step for step in self._steps if step.samples * 2 > self._total and step.batch_size == batch_size]
        differences = [after.loss - before.loss for before, after in pairwise(second_half)]
        if len(differences) < MIN_DIFFERENCES or self.diverged_at is not None:
            return None
        return math.sqrt(fmean(difference**2 for difference in differences) / 2)
