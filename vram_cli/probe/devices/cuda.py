"""Real steps on a GPU, measured by PyTorch's own allocator and the driver. ROCm is `cuda` here, as in PyTorch.

`xpu` offers the same counters and goes the same way. `mps` counts no peaks and is refused.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from typing import Any

import torch

from vram_cli.errors import MachineError
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats
from vram_cli.records import Device, Phase


class CudaMonitor(MemoryMonitor):
    """Counts by `torch.cuda`'s (or `torch.xpu`'s) allocator statistics, and the rest of the card by the driver.

    Args:
        device: such as cuda:0.
        memory_limit_bytes: makes the card act as a smaller one; the CUDA context counts in.
    """

    needs_ledger = False

    def __init__(self, device: torch.device, memory_limit_bytes: int | None) -> None:
        super().__init__(device)
        self._backend: Any = getattr(torch, device.type)
        self._backend.set_device(device)  # for code that says "cuda" and means the current one
        torch.empty(1, device=device)  # makes the context
        self._total = int(self._backend.mem_get_info(device)[1])
        if memory_limit_bytes is not None and memory_limit_bytes > self._total:
            raise MachineError(
                f"device.memory_limit: {memory_limit_bytes:,} bytes is more than {device} has ({self._total:,})",
                "leave the budget out to use the whole card",
            )
        self._budget = memory_limit_bytes
        self._others = _other_processes(device)
        self._retries_before = 0

    def describe(self) -> Device:
        """Return the card, with its memory as the driver reports it, or the budget."""
        return Device(
            kind="real",
            name=str(self._backend.get_device_name(self.device)),
            type=str(self.device),
            capacity_bytes=self._budget or self._total,
            memory_limit_bytes=self._budget,
            limit_enforced_by="the allocator's memory fraction" if self._capped else "the driver",
            other_processes=tuple(line for line, _ in self._others),
        )

    def capacity(self) -> tuple[int, int]:
        """Return the card's bytes (or the budget), and those held outside PyTorch's allocator.

        For the whole card that is the context and all other processes. A budget stands for a smaller card of which
        this process is the only user: other processes are left out of it where `nvidia-smi` can tell their share.
        """
        free, total = self._backend.mem_get_info(self.device)
        outside = int(total - free) - int(self._backend.memory_reserved(self.device))
        if self._budget is None:
            return self._total, outside
        return self._budget, max(0, outside - sum(size for _, size in self._others))

    def versions(self) -> dict[str, str]:
        """Return the versions of cuDNN and the driver, where they can be had."""
        if self.device.type != "cuda":
            return {}
        driver = _nvidia_smi("--query-gpu=driver_version").splitlines()
        found = {"driver": driver[0].strip() if driver else "", "cudnn": str(torch.backends.cudnn.version() or "")}
        return {name: version for name, version in found.items() if version}

    def overran(self) -> bool:
        """Whether kernels loaded during the trial made the context grow into what the cap had left to the allocator."""
        capacity, outside = self.capacity()
        return self._capped and outside + self._step_peak.reserved > capacity

    def apply_limit(self) -> None:
        """Cap what the allocator may reserve at the capacity less what lies outside it."""
        if self._capped:
            capacity, outside = self.capacity()
            self._set_fraction(max(0, capacity - outside) / self._total)

    def lift_limit(self) -> None:
        """Take the cap off."""
        if self._capped:
            self._set_fraction(1.0)

    def begin(self) -> None:
        """Give back all cached memory, then start as every meter does."""
        gc.collect()
        self._backend.empty_cache()
        self._retries_before = self._stat("num_alloc_retries")
        super().begin()

    def leave(self, *, failed: bool = False) -> None:
        """End the phase and count the allocator's retries so far."""
        super().leave(failed=failed)
        self.retries = self._stat("num_alloc_retries") - self._retries_before

    def settle(self) -> None:
        """Forget the memory in which cuDNN has tried its plans: all that was free, halved until it could be had.

        No step fails for it, and it has been given back (generate_and_filter_plans in Conv_v8.cpp): the steps that
        follow say what the training takes.
        """
        if self.device.type == "cuda" and torch.backends.cudnn.benchmark:
            self._trial_peaks = {phase: self._trial_peaks[phase] for phase in (Phase.BUILD, Phase.BATCH)}
            self._retries_before = self._stat("num_alloc_retries")

    def synchronize(self) -> None:
        """Wait for all kernels of the phase."""
        self._backend.synchronize(self.device)

    def read(self) -> PeakStats:
        """Return the allocator's peaks since `reset`."""
        allocated = int(self._backend.max_memory_allocated(self.device))
        return PeakStats(
            # Not every allocator backend counts requests (cudaMallocAsync does not).
            requested=self._stat("requested_bytes.all.peak") or allocated,
            allocated=allocated,
            reserved=int(self._backend.max_memory_reserved(self.device)),
        )

    def reset(self) -> None:
        """Start the allocator's peaks anew."""
        self._backend.reset_peak_memory_stats(self.device)

    def allocated_now(self) -> int:
        """Return the bytes that the allocator has handed out."""
        return int(self._backend.memory_allocated(self.device))

    def end(self) -> None:
        """Give cached memory back to the driver."""
        self._backend.empty_cache()

    @property
    def _capped(self) -> bool:
        """Windows spills to host memory where Linux fails: there the cap stands in for the driver (WSL#11050)."""
        return self._budget is not None or platform.system() == "Windows" or "microsoft" in platform.release().lower()

    def _set_fraction(self, fraction: float) -> None:
        self._backend.set_per_process_memory_fraction(min(1.0, fraction), self.device)

    def _stat(self, key: str) -> int:
        return int(self._backend.memory_stats(self.device).get(key, 0))


def _other_processes(device: torch.device) -> list[tuple[str, int]]:
    """Name the other processes on the card and their bytes, as `nvidia-smi` tells them; [] where it cannot."""
    if device.type != "cuda":
        return []
    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    text = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
    return parse_processes(text, uuid, os.getpid())


def _nvidia_smi(query: str) -> str:
    """Return the lines of a query, or "" where there is no `nvidia-smi` or it does not answer."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def parse_processes(text: str, uuid: str, own_pid: int) -> list[tuple[str, int]]:
    """Read `nvidia-smi --query-compute-apps=gpu_uuid,pid,process_name,used_memory --format=csv,noheader,nounits`.

    Sizes are in MiB there, and "[N/A]" inside some containers: such a process is named, with 0 bytes known.
    """
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 4 or uuid not in fields[0] or fields[1] == str(own_pid):
            continue
        name, size = ",".join(fields[2:-1]), fields[-1]
        known = int(size) * 1024**2 if size.isdigit() else 0
        found.append((f"{name} (pid {fields[1]}): {size + ' MiB' if known else 'size not told'}", known))
    return found
