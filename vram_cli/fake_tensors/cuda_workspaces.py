"""Memory that CUDA kernels allocate themselves, unseen by the dispatcher: a table with the source of each entry.

All of it comes from PyTorch's caching allocator and is freed as soon as the kernel is launched, except cuBLAS's
workspace before PyTorch 2.15. The unknown part, such as cuDNN's choice of plan, is covered by a calibration's
allowances.

cuDNN's batch norm is assumed to need no workspace, and to keep no reserve for the backward pass: PyTorch runs it
without an activation (CUDNN_BATCHNORM_OPS_BN in BatchNorm.cpp), so there is no mask to save, and cuDNN reports the
sizes only on the GPU itself. cuDNN's recurrent layers keep a large reserve of unknown size, so they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch

from vram_cli.fake_tensors.convolutions import Convolutions, PlanSearch
from vram_cli.fake_tensors.recorder import KernelAllocation
from vram_cli.fake_tensors.reductions import Processors, sum_buffers
from vram_cli.hardware.calibration import NO_ALLOWANCES, Allowances
from vram_cli.hardware.gpus import Gpu
from vram_cli.units import KIB, MIB

PER_GEMM_SINCE = (2, 15)
"""Since this version, each matrix product allocates a workspace; before, each thread kept one (pytorch#194311)."""

_SUMS = {"aten.sum", "aten.mean"}
_GEMMS = {"aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.addmv", "aten.mv"}


def cublas_workspace_bytes(gpu: Gpu) -> int:
    """Return cuBLAS's `:4096:2:16:8`, or `:4096:8` since Hopper (getChosenWorkspaceSize in CublasHandlePool.cpp)."""
    return 4096 * 8 * KIB if _major(gpu) >= 9 else (4096 * 2 + 16 * 8) * KIB


def cublaslt_workspace_bytes(gpu: Gpu) -> int:
    """Return cuBLASLt's own workspace: 1 MiB, or 32 MiB since Hopper (_parseChosenWorkspaceSize)."""
    return 32 * MIB if _major(gpu) >= 9 else 1 * MIB


class Workspaces:
    """Allocations of each operation's kernel on a GPU, with a version of PyTorch.

    Args:
        in_backward: whether the backward pass is running: it has its own thread, and so its own cuBLAS handle.
        tf32: whether float32 convolutions may run as TensorFloat-32.
        cudnn_benchmark: whether cuDNN tries its plans before it chooses one.
        allowances: a calibration's allowances for workspaces beyond this table.
    """

    def __init__(
        self,
        gpu: Gpu,
        torch_version: tuple[int, int],
        in_backward: Callable[[], bool],
        *,
        tf32: bool,
        cudnn_benchmark: bool = False,
        allowances: Allowances = NO_ALLOWANCES,
    ) -> None:
        self._gpu, self._per_gemm = gpu, torch_version >= PER_GEMM_SINCE
        self._in_backward = in_backward
        search = PlanSearch(in_backward) if cudnn_benchmark else None
        self._convolutions = Convolutions(gpu.compute_capability or (0, 0), tf32=tf32, search=search)
        self._processors = _processors(gpu)
        self._threads: set[bool] = set()
        self._allowances, self._allowance_bytes = allowances, 0

    def __call__(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> Iterable[KernelAllocation]:
        """Return the allocations of an operation's kernel, in order."""
        return [*self._allowance(name), *self._workspaces(name, args, kwargs, result)]

    def _allowance(self, name: str) -> list[tuple[int, bool]]:
        """Allocate the allowance at the first kernel of its kind and keep it, so that it counts at any peak."""
        is_convolution = name in self._convolutions.kernels
        if not is_convolution and name not in _GEMMS:
            return []
        missing = self._allowances.for_model(convolutions=is_convolution) - self._allowance_bytes
        self._allowance_bytes += max(missing, 0)
        return [(missing, True)] if missing > 0 else []

    def _workspaces(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> Iterable[KernelAllocation]:
        if name in _GEMMS:
            return self._gemm(name, args)
        if name in self._convolutions.kernels:
            allocations = self._convolutions.kernels[name](args, result)
            return [(item, False) if isinstance(item, int) else item for item in allocations if item]
        if self._processors is not None and name in _SUMS:
            dims = args[1] if len(args) > 1 else None
            return [(size, False) for size in sum_buffers(args[0], dims, self._processors)]
        if self._processors is not None and name == "aten.native_layer_norm_backward":
            return [(size, False) for size in _layer_norm_backward(args, self._processors) if size]
        formula = _TABLE.get(name)
        return [(size, False) for size in formula(args, kwargs, result) if size] if formula else ()

    def _gemm(self, name: str, args: tuple[Any, ...]) -> list[tuple[int, bool]]:
        if self._per_gemm:
            # A product with a bias vector runs in cuBLASLt, as an epilogue (addmm_out_cuda_impl in Blas.cpp).
            lt = name == "aten.addmm" and args[0].dim() == 1
            return [(cublaslt_workspace_bytes(self._gpu) if lt else cublas_workspace_bytes(self._gpu), False)]
        thread = self._in_backward()
        if thread in self._threads:
            return []
        self._threads.add(thread)
        return [(cublas_workspace_bytes(self._gpu), True)]


def no_workspaces(*_: Any) -> Iterable[KernelAllocation]:
    """Return no workspaces, for devices without a table."""
    return ()


def _major(gpu: Gpu) -> int:
    return gpu.compute_capability[0] if gpu.compute_capability else 0


def _processors(gpu: Gpu) -> Processors | None:
    """Return what decides about reductions; None for a GPU whose limits the catalogue lacks."""
    return Processors(gpu.multiprocessors, gpu.limits.threads_per_multiprocessor) if gpu.limits else None


def _numel(tensor: torch.Tensor) -> int:
    return prod(tensor.shape)


def _embedding_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Up to 3072 indices need nothing (embedding_dense_backward_cuda)."""
    grad, indices, rows = args[:3]
    return _sorted_embedding_backward(grad, indices, rows) if _numel(indices) > 3072 else []


def _embedding_bag_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Return the same for sums and means; the largest of each bag is kept by another kernel (mode 2)."""
    return [] if args[7] == 2 else _sorted_embedding_backward(args[0], args[1], args[5])


def _sorted_embedding_backward(grad: torch.Tensor, indices: torch.Tensor, rows: int) -> list[int]:
    """Sorted indices and partial sums of 10 rows each, at most a segment an index (embedding_backward_cuda_kernel)."""
    count = _numel(indices)
    segments = min(count, int(rows))
    partial = count // 10 + segments
    width = 8 if grad.element_size() == 8 else 4
    return [8 * (3 * count + 2 * segments + partial) + width * partial * grad.shape[-1]]


def _flash_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """The float32 accumulator of the queries' gradient, and one float per row (mha_bwd in flash_api.cpp)."""
    batch, heads, length, width = args[1].shape
    rows = batch * heads * _up(length, 128)
    return [4 * rows, 4 * rows * _up(width, 32 if width <= 128 else 64)]


def _efficient_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Return out * grad, which is summed by rows, and the sums with the queries' gradient in float32 tiles.

    The kernel for half sums the rows itself. Its tiles for keys and values, of heads wider than 128, depend on how many
    blocks share a head, and are left out (attention_backward.cu; workspace_size in kernel_backward.h).
    """
    query = args[1]
    batch, heads, length, width = query.shape
    rows = 128 if width > 64 else 64
    tile = 64 if query.element_size() == 4 or width > 128 else min(128, _up(width, 64))
    tiles = 4 * batch * heads * (length + _up(length, rows) * _up(width, tile))
    return [tiles] if query.element_size() == 2 else [4 * _numel(args[5]), tiles]


def _layer_norm(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Return a contiguous copy of the input, unless it is contiguous (layer_norm_cuda)."""
    return [_contiguous_copy(args[0])]


def _contiguous_copy(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_contiguous() else tensor.element_size() * _numel(tensor)


def _layer_norm_backward(args: tuple[Any, ...], processors: Processors) -> list[int]:
    """Return contiguous copies, and the partial sums of weight and bias (LaunchGammaBetaBackwardCUDAKernel)."""
    copies = _contiguous_copy(args[0]) + _contiguous_copy(args[1])
    return [copies + _layer_norm_sums(args, processors)]


def _layer_norm_sums(args: tuple[Any, ...], processors: Processors) -> int:
    source, weight = args[1], args[5]
    width = prod(args[2])
    rows = _numel(source) // width
    if weight is None or rows <= 64 * 1024 or width // 32 >= processors.multiprocessors / 2:
        return 0
    blocks = min(-(-rows // 32), 32 * 1024 // -(-width // 32))
    partial = weight.new_empty(blocks, width)
    return 2 * int(partial.nbytes) + sum(sum_buffers(partial, [0], processors))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


_TABLE: dict[str, Callable[[tuple[Any, ...], Any, Any], list[int]]] = {
    "aten.native_layer_norm": _layer_norm,
    "aten.embedding_dense_backward": _embedding_backward,
    "aten._embedding_bag_dense_backward": _embedding_bag_backward,
    "aten._scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten._scaled_dot_product_efficient_attention_backward": _efficient_backward,
}
