"""What CUDA kernels allocate for themselves, out of sight of the dispatcher: a table, each line with its source.

All of it comes from PyTorch's caching allocator and is freed when the kernel is launched, except cuBLAS's workspace
before torch 2.15. What nobody can know without the card (which plan cuDNN takes) is an allowance and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch

from vram_cli.memory.gpus import Gpu
from vram_cli.probe.simulated.convolutions import Convolutions
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
    """

    def __init__(
        self, gpu: Gpu, torch_version: tuple[int, int], in_backward: Callable[[], bool], *, tf32: bool
    ) -> None:
        self._gpu, self._per_gemm = gpu, torch_version >= PER_GEMM_SINCE
        self._in_backward = in_backward
        self._convolutions = Convolutions(gpu.compute_capability or (0, 0), tf32=tf32)
        self._threads: set[bool] = set()

    def __call__(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> Iterable[tuple[int, bool]]:
        """Return bytes and whether they are kept, for one operation."""
        if name in _GEMMS:
            return self._gemm(name, args)
        if name in self._convolutions.kernels:
            return [(size, False) for size in self._convolutions.kernels[name](args, result) if size]
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


def no_workspaces(*_: Any) -> Iterable[tuple[int, bool]]:
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
