"""Shortcuts for the outputs of cuDNN's batch norm.

PyTorch derives their shapes by two decompositions of some twenty operations (torch/_decomp/decompositions.py), which
take a quarter of the time of a simulated ResNet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor


def _forward(images: Tensor, weight: Tensor, *more: Any) -> Any:
    """Return output, mean, inverse deviation and reserve (cudnn/BatchNorm.cpp: cudnn_batch_norm).

    The reserve has no bytes here: cuDNN reports its size only on the GPU itself.
    """
    _bias, _mean, _variance, training, *_ = more
    if not training:
        return torch.ops.aten.cudnn_batch_norm.default(images, weight, *more)
    channels = images.shape[1]
    statistics = weight.new_empty(channels), weight.new_empty(channels)
    return torch.empty_like(images), *statistics, images.new_empty(0, dtype=torch.uint8)


def _backward(images: Tensor, grad: Tensor, weight: Tensor, *_: Any) -> Any:  # noqa: ARG001 - PyTorch's order
    """Return the gradients of input, weight and bias (cudnn/BatchNorm.cpp: cudnn_batch_norm_backward)."""
    return torch.empty_like(images), torch.empty_like(weight), torch.empty_like(weight)


SHORTCUTS: dict[str, Callable[..., Any]] = {
    "aten.cudnn_batch_norm": _forward,
    "aten.cudnn_batch_norm_backward": _backward,
}
"""Operation -> a function that allocates the same outputs."""
