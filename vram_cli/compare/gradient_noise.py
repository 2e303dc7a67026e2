"""How much gradients of different samples differ: the simple noise scale of McCandlish et al. 2018.

"An Empirical Model of Large-Batch Training" (arXiv 1812.06162), section 2.2 and appendix A.1: a gradient over B samples
has the expected squared norm |G|^2 + tr(S) / B. From groups of b samples each, all at the same weights, both terms
follow without bias: tr(S) / b is the variance between groups, and the mean over all of them has what is left of it.
B_simple = tr(S) / |G|^2 is the batch size at which the noise is as large as the gradient itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from vram_cli.workload.batches import Batch
from vram_cli.workload.workload import Workload


def gradient_noise(work: Workload, groups: Iterable[Batch], group_size: int) -> tuple[float, float]:
    """Return |G|^2 and tr(S) at the model's present weights, each without bias.

    Weights, their gradients and the optimizer's state stay as they are; so do the model's buffers, such as the running
    statistics of batch norm. The model is in the mode that it is in: with batch norm or dropout their noise counts too.

    Args:
        work: what is trained.
        groups: at least two batches of `group_size` samples, independent of each other.
        group_size: samples of a group.
    """
    trained = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
    kept = [buffer.clone() for buffer in work.model.buffers()]
    gradients = (_gradient(work, trained, batch) for batch in groups)
    try:
        return signal_and_variance(gradients, group_size)
    finally:
        for buffer, before in zip(work.model.buffers(), kept, strict=True):
            buffer.copy_(before)


def signal_and_variance(gradients: Iterable[Sequence[torch.Tensor]], group_size: int) -> tuple[float, float]:
    """Return |G|^2 and tr(S) from the mean gradients of at least two groups; holds two of them at a time.

    Raises:
        ValueError: there are fewer than two groups: one says nothing of how they differ.
    """
    count, squares, total = 0, 0.0, None
    for gradient in gradients:
        parts = [part.detach().float() for part in gradient]
        squares += _squared_norm(parts)
        total = parts if total is None else [one + other for one, other in zip(total, parts, strict=True)]
        count += 1
    if total is None or count < 2:
        raise ValueError("gradients of one group do not tell how groups differ")
    of_mean = _squared_norm(total) / count**2
    between = (squares - count * of_mean) / (count - 1)
    return of_mean - between / count, between * group_size


def _gradient(work: Workload, trained: Sequence[torch.Tensor], batch: Batch) -> list[torch.Tensor]:
    # Not backward(): that would add to gradients that are there, and step an optimizer that is in it.
    with work.autocast():
        loss = work.loss(work.model, batch)
    found = torch.autograd.grad(loss, list(trained), allow_unused=True)
    return [torch.zeros_like(own) if part is None else part for own, part in zip(trained, found, strict=True)]


def _squared_norm(parts: Sequence[torch.Tensor]) -> float:
    return sum(float(part.square().sum(dtype=torch.float64)) for part in parts)
