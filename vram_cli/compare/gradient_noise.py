"""The gradient noise scale of McCandlish et al. 2018: how much the gradients of different samples differ.

"An Empirical Model of Large-Batch Training" (arXiv 1812.06162), section 2.2 and appendix A.1: a gradient over B samples
has the expected squared norm |G|^2 + tr(S) / B. Groups of b samples each, all at the same weights, give unbiased
estimates of both terms: tr(S) / b is the variance between groups, and |G|^2 is the squared norm of the mean over all
groups, less the variance that remains in it. B_simple = tr(S) / |G|^2 is the batch size at which the noise is as large
as the gradient itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from vram_cli.workload.batches import Batch
from vram_cli.workload.workload import Workload


def gradient_noise(work: Workload, groups: Iterable[Batch], group_size: int) -> tuple[float, float]:
    """Return unbiased estimates of |G|^2 and tr(S) at the model's current weights.

    Weights, gradients and optimizer state do not change, nor do the model's buffers, such as the running statistics of
    batch norm. The model stays in its current mode: with batch norm or dropout, their noise is included.

    Args:
        work: The workload.
        groups: At least two independent batches of `group_size` samples.
        group_size: Samples per group.
    """
    parameters = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
    buffers = [buffer.clone() for buffer in work.model.buffers()]
    gradients = (_gradient(work, parameters, batch) for batch in groups)
    try:
        return signal_and_variance(gradients, group_size)
    finally:
        for buffer, before in zip(work.model.buffers(), buffers, strict=True):
            buffer.copy_(before)


def signal_and_variance(gradients: Iterable[Sequence[torch.Tensor]], group_size: int) -> tuple[float, float]:
    """Return |G|^2 and tr(S) from the mean gradients of at least two groups, with two of them in memory at a time.

    Raises:
        ValueError: There are fewer than two groups.
    """
    count, squares, total = 0, 0.0, None
    for gradient in gradients:
        tensors = [tensor.detach().float() for tensor in gradient]
        squares += _squared_norm(tensors)
        total = tensors if total is None else [one + other for one, other in zip(total, tensors, strict=True)]
        count += 1
    if total is None or count < 2:
        raise ValueError("the variance between groups needs at least two groups")
    of_mean = _squared_norm(total) / count**2
    between = (squares - count * of_mean) / (count - 1)
    return of_mean - between / count, between * group_size


def _gradient(work: Workload, parameters: Sequence[torch.Tensor], batch: Batch) -> list[torch.Tensor]:
    # Not backward(), which would add to existing gradients, and step an optimizer that runs in backward.
    with work.autocast():
        loss = work.loss(work.model, batch)
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


def _squared_norm(tensors: Sequence[torch.Tensor]) -> float:
    return sum(float(tensor.square().sum(dtype=torch.float64)) for tensor in tensors)
