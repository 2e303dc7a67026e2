"""How good a model is on a batch that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vram_cli.workload.batches import Batch, lengths_of
from vram_cli.workload.losses import logits_of
from vram_cli.workload.workload import Workload


@dataclass
class Score:
    """Sums over the samples looked at so far."""

    samples: int = 0
    loss: float = 0.0
    """Sum over samples of their batches' mean loss."""
    targets: int = 0
    """0 where outputs are no scores of classes."""
    right: int = 0

    @property
    def mean_loss(self) -> float:
        """Loss of a sample."""
        return self.loss / self.samples

    @property
    def accuracy(self) -> float | None:
        """Share of targets whose class has the largest output; None where there are none."""
        return self.right / self.targets if self.targets else None


@torch.no_grad()
def add_score(work: Workload, batch: Batch, score: Score) -> None:
    """Add a batch to a score; the model is taken as it is, in the mode that it is in."""
    outputs: list[Any] = []
    hook = work.model.register_forward_hook(lambda _model, _inputs, output: outputs.append(output))
    try:
        with work.autocast():
            loss = work.loss(work.model, batch)
    finally:
        hook.remove()
    n = max(lengths_of(batch), default=1)
    score.samples += n
    score.loss += n * float(loss)
    known = _right(logits_of(outputs[-1]), batch[1]) if isinstance(batch, tuple) and len(batch) == 2 else None
    if known is not None:
        score.right, score.targets = score.right + known[0], score.targets + known[1]


def _right(output: Any, targets: Any) -> tuple[int, int] | None:
    """Return how many targets are named by the largest output of their classes, and of how many there are.

    Classes lie along dimension 1, as PyTorch has it, or along the last one, as language models return them. Targets
    below 0 are left out, as cross entropy leaves out -100.
    """
    if not (isinstance(output, torch.Tensor) and isinstance(targets, torch.Tensor)):
        return None
    if output.dim() < 2 or targets.is_floating_point():
        return None
    along = next((dim for dim in (1, -1) if output.select(dim, 0).shape == targets.shape), None)
    if along is None:
        return None
    counted = targets >= 0
    return int(((output.argmax(along) == targets) & counted).sum()), int(counted.sum())
