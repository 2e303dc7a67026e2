"""What is written down of a training as it goes: losses, and what they say of noise."""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from statistics import fmean
from typing import NamedTuple

import torch

from vram_cli.compare.records import CurvePoint

STRETCHES = 60
"""Points of a loss curve, at most."""
FEWEST_PAIRS = 8
"""Of steps that follow each other, to tell noise from trend."""


class Step(NamedTuple):
    """One step of the optimizer."""

    images: int
    """Trained on by its end."""
    batch_size: int
    """Samples of its last batch."""
    loss: float
    """Of that batch."""


class LossHistory:
    """The steps of a training that will see `total` images."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._steps: list[Step] = []
        self._unread: list[tuple[int, int, torch.Tensor]] = []
        self.images = 0
        """Trained on so far."""
        self.diverged_at: int | None = None
        """The first step, counted from 1, whose loss is no longer finite."""

    def add(self, images: int, batch_size: int, loss: torch.Tensor) -> None:
        """Note a step over so many images, the last batch of which had this size and loss; the device goes on."""
        self.images += images
        self._unread.append((self.images, batch_size, loss))

    def read(self) -> float:
        """Wait for the losses that were noted, and return the last; not finite where training has diverged."""
        if self._unread:
            losses = torch.stack([loss for _, _, loss in self._unread]).float().tolist()
            wrong = next((index for index, loss in enumerate(losses, 1) if not math.isfinite(loss)), None)
            if wrong is not None and self.diverged_at is None:
                self.diverged_at = len(self._steps) + wrong
            self._steps += [Step(*noted[:2], loss) for noted, loss in zip(self._unread, losses, strict=True)]
            self._unread.clear()
        return self._steps[-1].loss

    @property
    def steps(self) -> int:
        """Steps that were read."""
        return len(self._steps)

    def curve(self) -> tuple[CurvePoint, ...]:
        """Return the mean loss over stretches of equal numbers of images, as far as it is finite."""
        finite = [step for step in self._steps if math.isfinite(step.loss)]
        stretches = groupby(finite, key=lambda step: (step.images - 1) * STRETCHES // self._total)
        grouped = [list(steps) for _, steps in stretches]
        return tuple(CurvePoint(images=steps[-1].images, loss=fmean(step.loss for step in steps)) for steps in grouped)

    def noise(self, batch_size: int) -> float | None:
        """Return the deviation of a batch's loss from its trend, over the second half of training.

        From differences of steps that follow each other, which a slow trend hardly touches: half their mean square is
        the variance (von Neumann et al. 1941, "The Mean Square Successive Difference"). Batches of another size, such
        as the last of an epoch, are left out. None for too few.
        """
        half = [step for step in self._steps if step.images * 2 > self._total and step.batch_size == batch_size]
        differences = [after.loss - before.loss for before, after in pairwise(half)]
        if len(differences) < FEWEST_PAIRS or self.diverged_at is not None:
            return None
        return math.sqrt(fmean(difference**2 for difference in differences) / 2)
