"""Memory that convolutions allocate themselves: copies in another layout, and the known part of cuDNN's workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from vram_cli.allocator.allocation_trace import AllocatorCall

_HALF = (torch.float16, torch.bfloat16)
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Dimensions of the input -> the layout that tensor cores require."""


class PlanSearch:
    """The known effects of cudnn.benchmark on memory.

    The first convolution of its kind in a thread tries all of cuDNN's plans, and then empties the allocator's cache
    (run_single_conv and get_plans_from_find in Conv_v8.cpp). It tries them in free memory, halving its request until it
    succeeds, and frees that again (generate_and_filter_plans). This takes a lot of memory for a moment but never fails,
    so it is left out. The fastest plan is unknown without the GPU: its workspace is assumed to be that of the plan
    without benchmark. That agrees with 29 of 30 of the timm rows in benchmarks/data, which were all measured with
    cudnn.benchmark on.

    Args:
        in_backward: whether the backward pass is running; each thread has its own results (benchmark_cache).
    """

    def __init__(self, in_backward: Callable[[], bool]) -> None:
        self._in_backward = in_backward
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(
        self, operation: str, source: torch.Tensor, weight: torch.Tensor, settings: Sequence[Any]
    ) -> list[AllocatorCall]:
        """Return the allocator calls before the plan runs; none for a known convolution (CacheKey)."""
        shapes = (tuple(source.shape), tuple(weight.shape), source.dtype, _runs_channels_last(source, weight))
        key = (self._in_backward(), operation, *shapes, str(settings))
        if key in self._seen:
            return []
        self._seen.add(key)
        return [AllocatorCall.EMPTY_CACHE]


class Convolutions:
    """Workspaces of the forward and the backward pass of convolutions.

    Tensor core kernels require channels last; cuDNN transposes other layouts into its workspace (NVIDIA's
    "Convolutional Layers User's Guide", section on tensor layouts). The rest of a plan's workspace is unknown and
    assumed to be 0: cuDNN reports it only on the GPU itself. If a plan's workspace cannot be allocated, PyTorch takes
    the next plan (try_plans in Conv_v8.cpp).

    Args:
        capability: compute capability; tensor cores support half precision since 7.0, TensorFloat-32 since 8.0.
        tf32: whether float32 may run as TensorFloat-32.
        search: the plan search, if cudnn.benchmark is on.
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
        copies = _copies(source, weight, source, weight)
        return [*copies, *self._plan("forward", source, weight, args[3:9], result, source, weight)]

    def _backward(self, args: tuple[Any, ...], result: Any) -> list[int | AllocatorCall]:
        """Return the workspaces for the gradients of the input and of the weight, in this order."""
        grad, source, weight = args[:3]
        to_source, to_weight = result[:2]
        allocations: list[int | AllocatorCall] = [*_copies(source, weight, grad, source, weight)]
        if to_source is not None:
            allocations += self._plan("input", source, weight, args[4:10], grad, weight, to_source)
        if to_weight is not None:
            allocations += self._plan("weight", source, weight, args[4:10], grad, source, to_weight)
        return allocations

    def _plan(
        self,
        operation: str,
        source: torch.Tensor,
        weight: torch.Tensor,
        settings: Sequence[Any],
        *operands: torch.Tensor,
    ) -> list[int | AllocatorCall]:
        """Return the allocations of finding and running a plan; the last setting is the number of groups."""
        if _is_depthwise(weight, settings[-1]):
            return []
        calls = self._search(operation, source, weight, settings) if self._search else []
        uses_tensor_cores = self._half if source.dtype in _HALF else self._tf32 and source.dtype is torch.float32
        if not uses_tensor_cores or source.dim() not in _LAYOUTS or _runs_channels_last(source, weight):
            return [*calls]
        return [*calls, sum(_bytes(operand) for operand in operands)]


def _copies(source: torch.Tensor, weight: torch.Tensor, *operands: torch.Tensor) -> list[int]:
    """Return the sizes of operands that are copied to the kernel's layout (cudnn_convolution_forward)."""
    is_last = source.dim() in _LAYOUTS and _runs_channels_last(source, weight)
    layout = _LAYOUTS[source.dim()] if is_last else torch.contiguous_format
    return [_bytes(operand) for operand in operands if not operand.is_contiguous(memory_format=layout)]


def _runs_channels_last(source: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the input or the weight is in channels last (cudnn_conv_suggest_memory_format)."""
    layout = _LAYOUTS.get(source.dim(), torch.channels_last)
    return any(tensor.is_contiguous(memory_format=layout) and not tensor.is_contiguous() for tensor in (source, weight))


def _is_depthwise(weight: torch.Tensor, groups: int) -> bool:
    """Whether a convolution is depthwise and so runs on PyTorch's own kernels (ConvParams::is_depthwise)."""
    return groups > 1 and weight.shape[1] == 1


def _bytes(tensor: torch.Tensor) -> int:
    return prod(tensor.shape) * tensor.element_size()
