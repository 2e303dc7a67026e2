"""What convolutions allocate for themselves: copies in another layout, and cuDNN's workspace as far as it is known."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch

_HALF = (torch.float16, torch.bfloat16)


class Convolutions:
    """Workspaces of the forward and the backward pass on a card.

    Kernels for tensor cores want channels last; cuDNN transposes what lies otherwise into its workspace (NVIDIA's
    "Convolutional Layers User's Guide", section on tensor layouts). What a plan takes beyond that is not known.

    Args:
        capability: of the card; tensor cores take half precision since 7.0, TensorFloat-32 since 8.0.
        tf32: whether float32 may run as TensorFloat-32.
    """

    def __init__(self, capability: tuple[int, int], *, tf32: bool) -> None:
        self._half, self._tf32 = capability >= (7, 0), tf32 and capability >= (8, 0)
        self.kernels: dict[str, Callable[[tuple[Any, ...], Any], list[int]]] = {
            "aten.convolution": self._forward,
            "aten.convolution_backward": self._backward,
        }

    def _forward(self, args: tuple[Any, ...], result: Any) -> list[int]:
        source, weight = args[:2]
        moved = _copies(source, weight, source, weight)
        return [*moved, *self._transposes(source, weight, args[8], result, source, weight)]

    def _backward(self, args: tuple[Any, ...], result: Any) -> list[int]:
        """Gradient of the input first, of the weight second, each with a workspace of its own."""
        grad, source, weight = args[:3]
        moved = _copies(source, weight, grad, source, weight)
        to_source, to_weight = result[:2]
        sizes = moved
        if to_source is not None:
            sizes = [*sizes, *self._transposes(source, weight, args[9], grad, weight, to_source)]
        if to_weight is not None:
            sizes = [*sizes, *self._transposes(source, weight, args[9], grad, source, to_weight)]
        return sizes

    def _transposes(
        self, source: torch.Tensor, weight: torch.Tensor, groups: int, *operands: torch.Tensor
    ) -> list[int]:
        wanted = self._half if source.dtype in _HALF else self._tf32 and source.dtype is torch.float32
        if not wanted or source.dim() != 4 or _runs_channels_last(source, weight) or _is_depthwise(weight, groups):
            return []
        return [sum(_bytes(operand) for operand in operands)]


def _copies(source: torch.Tensor, weight: torch.Tensor, *operands: torch.Tensor) -> list[int]:
    """Return the operands that do not lie as the kernel is asked to take them (cudnn_convolution_forward)."""
    last = source.dim() == 4 and _runs_channels_last(source, weight)
    kind = torch.channels_last if last else torch.contiguous_format
    return [_bytes(operand) for operand in operands if not operand.is_contiguous(memory_format=kind)]


def _runs_channels_last(source: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the input or the weight lies so (cudnn_conv_suggest_memory_format)."""
    return any(
        tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
        for tensor in (source, weight)
    )


def _is_depthwise(weight: torch.Tensor, groups: int) -> bool:
    """Those have kernels of their own (ConvParams::is_depthwise)."""
    return groups > 1 and weight.shape[1] == 1


def _bytes(tensor: torch.Tensor) -> int:
    return prod(tensor.shape) * tensor.element_size()
