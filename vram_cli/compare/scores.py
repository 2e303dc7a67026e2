"""Validation loss and accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vram_cli.workload.batches import Batch, lengths_of
from vram_cli.workload.losses import logits_of
from vram_cli.workload.workload import Workload


@dataclass
class Score:
    """Running sums over validation batches."""

    samples: int = 0
    loss: float = 0.0
    """Sum over samples of the mean loss of their batch."""
    targets: int = 0
    """Class targets; 0 if the outputs are not class scores."""
    correct: int = 0

    @property
    def mean_loss(self) -> float:
        """Mean loss per sample."""
        return self.loss / self.samples

    @property
    def accuracy(self) -> float | None:
        """Fraction of targets predicted correctly; None without class targets."""
        return self.correct / self.targets if self.targets else None


@torch.no_grad()
def add_score(work: Workload, batch: Batch, score: Score) -> None:
    """Add a batch to a score, with the model in its current mode."""
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
    if isinstance(batch, tuple) and len(batch) == 2:
        correct, targets = _count_correct(logits_of(outputs[-1]), batch[1])
        score.correct, score.targets = score.correct + correct, score.targets + targets


def _count_correct(output: Any, targets: Any) -> tuple[int, int]:
    """Return the number of correct predictions and of targets; (0, 0) if the outputs are not class scores.

    Classes are along dimension 1, as in PyTorch's losses, or along the last one, as in language models. Targets below 0
    are ignored, like the -100 of cross entropy.
    """
    if not (isinstance(output, torch.Tensor) and isinstance(targets, torch.Tensor)):
        return 0, 0
    if output.dim() < 2 or targets.is_floating_point():
        return 0, 0
    class_dim = next((dim for dim in (1, -1) if output.select(dim, 0).shape == targets.shape), None)
    if class_dim is None:
        return 0, 0
    counted = targets >= 0
    return int(((output.argmax(class_dim) == targets) & counted).sum()), int(counted.sum())
