"""What CUDA kernels allocate for themselves, out of sight of the dispatcher: a table, each line with its source.

All of it comes from PyTorch's caching allocator and is freed when the kernel is launched, except cuBLAS's workspace
before torch 2.15. What nobody can know without the card (which plan cuDNN takes) is an allowance and says so.

Batch norm of cuDNN is taken to keep no reserve for the backward pass, and to need no workspace: PyTorch runs it without
an activation (CUDNN_BATCHNORM_OPS_BN in BatchNorm.cpp), so that there is no mask to keep, and its sizes are told by
cuDNN on the card alone. Recurrent layers of cuDNN keep a large one that is told nowhere else: they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch

from vram_cli.fake_tensors.convolutions import Convolutions, PlanSearch
from vram_cli.fake_tensors.recorder import KernelAllocation
from vram_cli.hardware.calibration import NO_ALLOWANCES, Allowances
from vram_cli.hardware.gpus import Gpu
from vram_cli.units import KIB, MIB

PER_GEMM_SINCE = (2, 15)
"""From this torch on every matrix product allocates a workspace; before, each thread kept one (pytorch#194311)."""

_GEMMS = {"aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.addmv", "aten.mv"}


def cublas_workspace_bytes(gpu: Gpu) -> int:
    """cuBLAS: `:4096:2:16:8`, from Hopper on `:4096:8` (getChosenWorkspaceSize in CublasHandlePool.cpp)."""
    return 4096 * 8 * KIB if _major(gpu) >= 9 else (4096 * 2 + 16 * 8) * KIB


def cublaslt_workspace_bytes(gpu: Gpu) -> int:
    """cuBLASLt where it does not share cuBLAS's: 1 MiB, 32 MiB on Hopper and later (_parseChosenWorkspaceSize)."""
    return 32 * MIB if _major(gpu) >= 9 else 1 * MIB


class Workspaces:
    """What each operation's kernel takes on the side, on a card and with a version of torch.

    Args:
        in_backward: whether the backward pass is running: it has a thread of its own, and so its own cuBLAS handle.
        tf32: whether convolutions of float32 may run as TensorFloat-32.
        cudnn_benchmark: whether cuDNN's plans are searched by trying them.
        allowances: what a calibration allows for beyond what this table knows.
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
        self._threads: set[bool] = set()
        self._allowances, self._allowed = allowances, 0

    def __call__(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> Iterable[KernelAllocation]:
        """Return what one operation takes, in order."""
        return [*self._allowance(name), *self._known(name, args, kwargs, result)]

    def _allowance(self, name: str) -> list[tuple[int, bool]]:
        """Hold what is allowed for from the first kernel of a kind on: so it counts wherever the peak will be."""
        convolves = name in self._convolutions.kernels
        if not convolves and name not in _GEMMS:
            return []
        more = self._allowances.for_model(convolutions=convolves) - self._allowed
        self._allowed += max(more, 0)
        return [(more, True)] if more > 0 else []

    def _known(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> Iterable[KernelAllocation]:
        if name in _GEMMS:
            return self._gemm(name, args)
        if name in self._convolutions.kernels:
            taken = self._convolutions.kernels[name](args, result)
            return [(item, False) if isinstance(item, int) else item for item in taken if item]
        formula = _TABLE.get(name)
        return [(size, False) for size in formula(args, kwargs, result) if size] if formula else ()

    def _gemm(self, name: str, args: tuple[Any, ...]) -> list[tuple[int, bool]]:
        if self._per_gemm:
            # A product with a bias vector is an epilogue of cuBLASLt (addmm_out_cuda_impl in Blas.cpp).
            lt = name == "aten.addmm" and args[0].dim() == 1
            return [(cublaslt_workspace_bytes(self._gpu) if lt else cublas_workspace_bytes(self._gpu), False)]
        thread = self._in_backward()
        if thread in self._threads:
            return []
        self._threads.add(thread)
        return [(cublas_workspace_bytes(self._gpu), True)]


def no_workspaces(*_: Any) -> Iterable[KernelAllocation]:
    """Stand for a device whose kernels are not looked into."""
    return ()


def _major(gpu: Gpu) -> int:
    return gpu.compute_capability[0] if gpu.compute_capability else 0


def _numel(tensor: torch.Tensor) -> int:
    return prod(tensor.shape)


def _embedding_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Indices above 3072 are sorted: keys and positions, twice for the radix sort (embedding_dense_backward_cuda)."""
    count = _numel(args[1])
    return [8 * count] * 4 if count > 3072 else []


def _flash_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """The gradient of the queries is summed in float32, beside one float a row (mha_bwd in flash_api.cpp)."""
    batch, heads, length, width = args[1].shape
    rows = batch * heads * _up(length, 128)
    return [4 * rows, 4 * rows * _up(width, 32 if width <= 128 else 64)]


def _efficient_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Half: the queries' gradient in float32. Float: out * grad, for the sums of its rows (attention_backward.cu)."""
    query = args[1]
    return [4 * _numel(query)] if query.element_size() == 2 else [4 * _numel(args[5])]


def _layer_norm_backward(args: tuple[Any, ...], _: Any, __: Any) -> list[int]:
    """Partial sums of the gradients of weight and bias, 16 rows of each (LayerNormBackwardKernelImpl)."""
    width = prod(args[2])
    return [4 * 16 * width] * 2


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


_TABLE: dict[str, Callable[[tuple[Any, ...], Any, Any], list[int]]] = {
    "aten.embedding_dense_backward": _embedding_backward,
    "aten._scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten._scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten.native_layer_norm_backward": _layer_norm_backward,
}
