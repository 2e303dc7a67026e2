"""An exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import nn

DECAY = 0.999
"""What an update keeps of the average; the usual value, of no importance for memory."""


class WeightAverage:
    """Holds a copy of every parameter and buffer, as `torch.optim.swa_utils.AveragedModel` does with its own model."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = [tensor.detach().clone() for tensor in _state(model)]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average a little towards the model; whole numbers, such as counters, are copied."""
        pairs = list(zip(self.tensors, _state(model), strict=True))
        floating = [(own, new) for own, new in pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in floating], [new for _, new in floating], 1 - DECAY)
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)


def _state(model: nn.Module) -> list[torch.Tensor]:
    return [*(parameter.detach() for parameter in model.parameters()), *model.buffers()]
