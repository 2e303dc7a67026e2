"""An exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import nn

DECAY = 0.999
"""Share of the average that an update keeps: the usual value; memory does not depend on it."""


class WeightAverage:
    """A copy of every parameter and buffer, as `torch.optim.swa_utils.AveragedModel` keeps in a model of its own."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = [tensor.detach().clone() for tensor in _state(model)]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average a little towards the model; copy integers, such as counters."""
        pairs = list(zip(self.tensors, _state(model), strict=True))
        floating = [(average, new) for average, new in pairs if average.is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floating], [new for _, new in floating], 1 - DECAY)
        for average, new in pairs:
            if not average.is_floating_point():
                average.copy_(new)


def _state(model: nn.Module) -> list[torch.Tensor]:
    return [*(parameter.detach() for parameter in model.parameters()), *model.buffers()]
