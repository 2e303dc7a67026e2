"""What convolutions allocate for themselves: copies in another layout, and cuDNN's workspace as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from vram_cli.allocator.allocation_trace import AllocatorCall

_HALF = (torch.float16, torch.bfloat16)


class PlanSearch:
    """What cudnn.benchmark does to memory, as far as it can be known.

    The first convolution of its kind in a thread tries all of cuDNN's plans, and then empties the allocator's cache
    (run_single_conv and get_plans_from_find in Conv_v8.cpp). It tries them in memory that is free, halves what it asks
    for until it gets it, and gives it back (generate_and_filter_plans): it takes a lot for a moment and fails nothing,
    so that moment is left out. Which plan will be the fastest is not known without the card: its workspace is taken to
    be that of the plan without benchmark. That agrees with 29 of 30 of the timm rows in benchmarks/data, which were all
    measured with cudnn.benchmark on.

    Args:
        in_backward: whether the backward pass is running; what was found is kept for each thread (benchmark_cache).
    """

    def __init__(self, in_backward: Callable[[], bool]) -> None:
        self._in_backward = in_backward
        self._found: set[tuple[Any, ...]] = set()

    def __call__(
        self, operation: str, source: torch.Tensor, weight: torch.Tensor, settings: Sequence[Any]
    ) -> list[AllocatorCall]:
        """Return what is done to the allocator before the plan runs; nothing where it is known (CacheKey)."""
        shapes = (tuple(source.shape), tuple(weight.shape), source.dtype, _runs_channels_last(source, weight))
        kind = (self._in_backward(), operation, *shapes, str(settings))
        if kind in self._found:
            return []
        self._found.add(kind)
        return [AllocatorCall.EMPTY_CACHE]


class Convolutions:
    """Workspaces of the forward and the backward pass on a card.

    Kernels for tensor cores want channels last; cuDNN transposes what lies otherwise into its workspace (NVIDIA's
    "Convolutional Layers User's Guide", section on tensor layouts). What a plan takes beyond that is not known, and
    taken to be nothing: cuDNN tells it on the card alone. Where a plan's workspace cannot be had, PyTorch takes the
    next one (try_plans in Conv_v8.cpp).

    Args:
        capability: of the card; tensor cores take half precision since 7.0, TensorFloat-32 since 8.0.
        tf32: whether float32 may run as TensorFloat-32.
        search: for plans, where cudnn.benchmark is on.
    """

    def __init__(self, capability: tuple[int, int], *, tf32: bool, search: PlanSearch | None = None) -> None:
        self._half, self._tf32 = capability >= (7, 0), tf32 and capability >= (8, 0)
        self._search = search
        self.kernels: dict[str, Callable[[tuple[Any, ...], Any], list[int | AllocatorCall]]] = {
            "aten.convolution": self._forward,
            "aten.convolution_backward": self._backward,
        }

    def _forward(self, args: tuple[Any, ...], result: Any) -> list[int | AllocatorCall]:
        source, weight = args[:2]
        moved = _copies(source, weight, source, weight)
        return [*moved, *self._plan("forward", source, weight, args[3:9], result, source, weight)]

    def _backward(self, args: tuple[Any, ...], result: Any) -> list[int | AllocatorCall]:
        """Gradient of the input first, of the weight second, each with a workspace of its own."""
        grad, source, weight = args[:3]
        to_source, to_weight = result[:2]
        taken: list[int | AllocatorCall] = [*_copies(source, weight, grad, source, weight)]
        if to_source is not None:
            taken += self._plan("input", source, weight, args[4:10], grad, weight, to_source)
        if to_weight is not None:
            taken += self._plan("weight", source, weight, args[4:10], grad, source, to_weight)
        return taken

    def _plan(
        self,
        operation: str,
        source: torch.Tensor,
        weight: torch.Tensor,
        settings: Sequence[Any],
        *operands: torch.Tensor,
    ) -> list[int | AllocatorCall]:
        """Return what finding and running a plan takes; the last setting is the number of groups."""
        if _is_depthwise(weight, settings[-1]):
            return []
        found = self._search(operation, source, weight, settings) if self._search else []
        wanted = self._half if source.dtype in _HALF else self._tf32 and source.dtype is torch.float32
        if not wanted or source.dim() != 4 or _runs_channels_last(source, weight):
            return [*found]
        return [*found, sum(_bytes(operand) for operand in operands)]


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
