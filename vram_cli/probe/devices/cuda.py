"""Real steps on a GPU, measured by PyTorch's allocator and the driver. ROCm is `cuda` here, as in PyTorch.

`xpu` has the same counters and is measured in the same way.
"""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import torch

from vram_cli.errors import MachineError
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats
from vram_cli.records import Phase


class CudaMonitor(MemoryMonitor):
    """Reads `torch.cuda`'s (or `torch.xpu`'s) allocator statistics, and queries the driver for the rest of the GPU.

    Args:
        device: such as cuda:0.
        memory_limit: makes the GPU act as a smaller one; it includes the CUDA context.
    """

    has_peak_counters = True
    confirm_in_new_process = True

    def __init__(self, device: torch.device, memory_limit: int | None) -> None:
        super().__init__(device)
        self._backend: Any = getattr(torch, device.type)
        self._backend.set_device(device)  # for user code in which "cuda" means the current device
        torch.empty(1, device=device)  # creates the context
        self._total = int(self._backend.mem_get_info(device)[1])
        if memory_limit is not None and memory_limit > self._total:
            raise MachineError(
                f"device.memory_limit: {memory_limit:,} bytes is more than {device} has ({self._total:,})",
                "leave the limit out to use the whole GPU",
            )
        self._limit = memory_limit
        self._others = self._other_processes()
        self._earlier_retries = 0

    def name(self) -> str:
        """Return the name that the driver reports."""
        return str(self._backend.get_device_name(self.device))

    def limit_enforced_by(self) -> str:
        """Return "the driver" for the whole GPU, else the allocator's memory fraction."""
        return "the allocator's memory fraction" if self._is_capped else "the driver"

    def _other_processes(self) -> list[tuple[str, int]]:
        """Return the other processes on the GPU and their bytes, as `nvidia-smi` reports them; [] if it does not."""
        if self.device.type != "cuda":
            return []
        uuid = str(getattr(torch.cuda.get_device_properties(self.device), "uuid", ""))
        text = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
        return parse_processes(text, uuid, os.getpid())

    def other_processes(self) -> tuple[str, ...]:
        """Return the other processes on the GPU as `nvidia-smi` reports them."""
        return tuple(line for line, _ in self._others)

    @property
    def memory_limit(self) -> int | None:
        """The memory limit in the config."""
        return self._limit

    def capacity(self) -> tuple[int, int]:
        """Return the GPU's bytes (or the limit), and those held outside PyTorch's allocator.

        For the whole GPU these are the context and all other processes. A limit stands for a smaller GPU that this
        process has to itself: other processes do not count if `nvidia-smi` reports their share.
        """
        free, total = self._backend.mem_get_info(self.device)
        outside = int(total - free) - int(self._backend.memory_reserved(self.device))
        if self._limit is None:
            return self._total, outside
        return self._limit, max(0, outside - sum(size for _, size in self._others))

    def versions(self) -> dict[str, str]:
        """Return the versions of cuDNN and the driver, if available."""
        if self.device.type != "cuda":
            return {}
        driver = _nvidia_smi("--query-gpu=driver_version").splitlines()
        versions = {"driver": driver[0].strip() if driver else "", "cudnn": str(torch.backends.cudnn.version() or "")}
        return {name: version for name, version in versions.items() if version}

    def exceeded_limit(self) -> bool:
        """Return whether kernels loaded during the trial made the context grow into the allocator's share."""
        capacity, outside = self.capacity()
        return self._is_capped and outside + self._step_peak.reserved > capacity

    def set_limit(self) -> None:
        """Cap the allocator's reserved memory at the capacity minus the memory outside the allocator."""
        if self._is_capped:
            capacity, outside = self.capacity()
            self._set_fraction(max(0, capacity - outside) / self._total)

    def remove_limit(self) -> None:
        """Remove the cap."""
        if self._is_capped:
            self._set_fraction(1.0)

    def start_trial(self) -> None:
        """Return all cached memory to the driver, then start the trial."""
        self.free_workspaces()
        self._backend.empty_cache()
        self._earlier_retries = self._stat("num_alloc_retries")
        super().start_trial()

    def end_phase(self, *, failed: bool = False) -> None:
        """End the phase and count the allocator's retries so far."""
        super().end_phase(failed=failed)
        self.allocator_retries = self._stat("num_alloc_retries") - self._earlier_retries

    def discard_first_step_peak(self) -> None:
        """Discard the memory in which cuDNN tried its plans: all free memory, halved until the allocation succeeded.

        No step fails for lack of it, and it has been freed (generate_and_filter_plans in Conv_v8.cpp): later steps
        show the memory of the training.
        """
        if self.device.type == "cuda" and torch.backends.cudnn.benchmark:
            self._peaks = {phase: peak for phase, peak in self._peaks.items() if phase in (Phase.BUILD, Phase.BATCH)}
            self._earlier_retries = self._stat("num_alloc_retries")

    def free_workspaces(self) -> None:
        """Free the workspaces of cuBLAS, which are allocated with the first matrix product of a thread."""
        if self.device.type == "cuda":
            torch._C._cuda_clearCublasWorkspaces()

    def synchronize(self) -> None:
        """Wait for all kernels of the phase."""
        self._backend.synchronize(self.device)

    def peak_stats(self) -> PeakStats:
        """Return the allocator's peaks since `reset_peak`."""
        allocated = int(self._backend.max_memory_allocated(self.device))
        return PeakStats(
            # Not every allocator backend counts requests (cudaMallocAsync does not).
            requested=self._stat("requested_bytes.all.peak") or allocated,
            allocated=allocated,
            reserved=int(self._backend.max_memory_reserved(self.device)),
        )

    def reset_peak(self) -> None:
        """Reset the allocator's peaks."""
        self._backend.reset_peak_memory_stats(self.device)

    def allocated_bytes(self) -> int:
        """Return the bytes that the allocator has handed out."""
        return int(self._backend.memory_allocated(self.device))

    def empty_cache(self) -> None:
        """Return cached memory to the driver."""
        self._backend.empty_cache()

    @property
    def _is_capped(self) -> bool:
        """Whether a cap replaces the driver: for a limit, and on Windows, which spills to host memory (WSL#11050)."""
        return self._limit is not None or platform.system() == "Windows" or "microsoft" in platform.release().lower()

    def _set_fraction(self, fraction: float) -> None:
        self._backend.set_per_process_memory_fraction(min(1.0, fraction), self.device)

    def _stat(self, key: str) -> int:
        return int(self._backend.memory_stats(self.device).get(key, 0))


def _nvidia_smi(query: str) -> str:
    """Return the output of a query, or "" if `nvidia-smi` is missing or fails."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def parse_processes(text: str, uuid: str, own_pid: int) -> list[tuple[str, int]]:
    """Parse `nvidia-smi --query-compute-apps=gpu_uuid,pid,process_name,used_memory --format=csv,noheader,nounits`.

    Sizes are in MiB there, and "[N/A]" inside some containers: such a process is listed with 0 bytes.
    """
    processes = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 4 or uuid not in fields[0] or fields[1] == str(own_pid):
            continue
        name, size = ",".join(fields[2:-1]), fields[-1]
        num_bytes = int(size) * 1024**2 if size.isdigit() else 0
        shown = f"{size} MiB" if num_bytes else "size unknown"
        processes.append((f"{name} (pid {fields[1]}): {shown}", num_bytes))
    return processes
