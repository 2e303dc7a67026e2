"""Steps of PyTorch's CUDA code on the virtual GPU: counted as on a GPU, by the same allocator and the same counters."""

from __future__ import annotations

import gc
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

from vram_cli.probe.devices.cuda import CudaMonitor
from vram_cli.records import Device
from vram_cli.workload.model_without_memory import ReusedModel

_ROUNDS, _PAUSE_SECONDS = 10, 0.02
"""Tries to let tensors of collectives go, and the time between them; tensors that the user's code keeps need all."""
_SMALL_BYTES = 1024**2
"""Less than a block of the allocator: the tensor by which collectives are asked to let go, for one."""

_FINDING = ("nonzero", "_unique2", "unique_consecutive")
"""Operators that read how many elements they have found; masks and `masked_select` call the first."""


class VirtualGpuMonitor(CudaMonitor):
    """Reads the statistics of `torch.cuda`'s allocator. The library's memory is the limit, so nothing else sets one.

    Args:
        name: name of the GPU.
        memory_limit: the memory limit of the config in bytes, which the library has in place of the GPU's memory.
        accuracy: one line on the error of such predictions.
        modules: the model and the criterion of all trials.
        communication_bytes: NCCL's own memory, which the library counts as used.
    """

    # A trial starts with an empty cache, and kernels that are loaded on first use take no memory here.
    confirm_in_new_process = False
    sharded_from = torch.device("meta")

    def __init__(
        self,
        name: str,
        memory_limit: int | None,
        accuracy: str,
        modules: defaultdict[str, ReusedModel],
        communication_bytes: int = 0,
    ) -> None:
        super().__init__(torch.device("cuda:0"), None)
        disable_triton_kernels()
        self._name, self._requested_limit, self._accuracy = name, memory_limit, accuracy
        self._modules, self._before = modules, 0
        self.communication_bytes = communication_bytes

    def place(
        self, part: str, build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype | None
    ) -> nn.Module:
        """Build a module without memory of the host, once for all trials, and place empty tensors on the device."""
        return self._modules[part].place(build, device, dtype)

    def start_trial(self) -> None:
        """Start a trial, and remember the tensors of before."""
        super().start_trial()
        self._before = self.allocated_bytes()

    def release(self) -> None:
        """Let the tensors of the modules and of collectives go."""
        for module in self._modules.values():
            module.release()
        if _has_group():
            self._release_collectives()

    def _release_collectives(self) -> None:
        """Let collectives go of their tensors, which takes a thread of NCCL's group longer on a busy machine."""
        gc.collect()  # sharded models are in reference cycles
        self.free_workspaces()
        for _ in range(_ROUNDS):
            self.wait_for_collectives()
            dist.all_reduce(torch.empty(1, device=self.device))
            if self.allocated_bytes() <= self._before + _SMALL_BYTES:
                return
            time.sleep(_PAUSE_SECONDS)

    def describe(self) -> Device:
        """Return the GPU, as simulated."""
        return replace(
            super().describe(),
            kind="simulated",
            engine="virtual-gpu",
            name=self._name,
            memory_limit_bytes=self._requested_limit,
            accuracy=self._accuracy,
        )

    def wait_for_collectives(self) -> None:
        """Wait until NCCL's watchdog knows that collectives are done: it looks every 100 ms, and steps are faster here.

        The group then lets go of their tensors as the next one starts (ProcessGroupNCCL, shelvesToUnstash_), as it does
        in a training whose steps take longer.
        """
        if _has_group():
            cast("Any", dist.group.WORLD)._wait_for_pending_works()

    def limit_enforced_by(self) -> str:
        """Return the allocator that refuses, which is PyTorch's own."""
        return "PyTorch's CUDA allocator, without a GPU"

    def _other_processes(self) -> list[tuple[str, int]]:
        """Return none: the virtual GPU is this process's own."""
        return []

    def versions(self) -> dict[str, str]:
        """Return the version of cuDNN."""
        version = torch.backends.cudnn.version()
        return {"cudnn": str(version)} if version else {}


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def assume_distinct_rows(assumed_size: Callable[[int], AbstractContextManager[None]]) -> None:
    """Let `Tensor.coalesce`, which sparse optimizers call, find as many distinct indices as there can be.

    Args:
        assumed_size: answers the read of how many there are, while the context is open.
    """
    coalesce = torch.Tensor.coalesce

    def coalesce_all(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_cuda or tensor.is_coalesced():
            return coalesce(tensor)
        with assumed_size(tensor._nnz()):
            return coalesce(tensor)

    torch.Tensor.coalesce = coalesce_all  # type: ignore[assignment]


def assume_all_found(assumed_size: Callable[[int], AbstractContextManager[None]]) -> torch.library.Library | None:
    """Let `nonzero`, boolean masks and `unique` find as many elements as there can be, which takes the most memory.

    Args:
        assumed_size: answers the read of how many there are, while the context is open.

    Returns:
        What keeps this in force; None if this PyTorch cannot call a kernel that was replaced (before 2.9).
    """
    if not hasattr(torch.library, "get_kernel"):
        return None
    library = torch.library.Library("aten", "IMPL")
    for name in _FINDING:
        kernel = torch.library.get_kernel(f"aten::{name}", "CUDA")

        def find(keys: Any, tensor: torch.Tensor, *args: Any, kernel: Any = kernel, **kwargs: Any) -> Any:
            with assumed_size(tensor.numel()):
                return kernel.call_boxed(keys, tensor, *args, **kwargs)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced
            library.impl(name, find, "CUDA", with_keyset=True)
    return library


def disable_triton_kernels() -> None:
    """Let cuBLAS run the products of PyTorch's own that 2.14 runs in Triton, which asks the driver for a real GPU.

    Neither allocates more than its result (torch/_native/ops).
    """
    native = getattr(torch.backends, "python_native", None)
    if native is not None:
        native.triton.disable()
