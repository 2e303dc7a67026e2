"""Real steps on Apple's GPU, measured by the storage tracker and Metal, under a limit of PyTorch's allocator.

PyTorch has no peak counters for `mps`. It offers `torch.mps.driver_allocated_memory` (all memory that Metal holds for
this process), `recommended_max_memory`, and `set_per_process_memory_fraction`, above which its allocator raises.
"""

from __future__ import annotations

import platform
from typing import Any

import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.errors import MachineError
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats

_NEEDED = ("driver_allocated_memory", "recommended_max_memory", "set_per_process_memory_fraction")


class MpsMonitor(MemoryMonitor):
    """Measures tensors with the storage tracker, and samples Metal's memory whenever a storage is allocated.

    Memory that kernels allocate and free between two samples is not measured, but the limit applies to it.

    Args:
        device: mps, or another device whose tensors are tracked in tests.
        memory_limit: bytes to stay within; None for Metal's recommended maximum.
        backend: the module with the device's functions, `torch.mps`.
    """

    has_peak_counters = False
    confirm_in_new_process = True

    def __init__(self, device: torch.device, memory_limit: int | None, backend: Any = torch.mps) -> None:
        self._backend, self._peak = backend, 0
        if missing := [name for name in _NEEDED if not hasattr(backend, name)]:
            raise MachineError(
                f"device.name: mps: PyTorch {torch.__version__} has no torch.mps.{missing[0]}",
                "upgrade PyTorch, or use --device cpu with a --memory-limit",
            )
        super().__init__(device)
        self._total = int(backend.recommended_max_memory())
        if memory_limit is not None and memory_limit > self._total:
            raise MachineError(
                f"device.memory_limit: {memory_limit:,} bytes is more than Metal recommends for {device} "
                f"({self._total:,})",
                "leave the limit out to use all of it",
            )
        self._limit = memory_limit

    def name(self) -> str:
        """Return the chip's name."""
        if torch.backends.mps.is_built() and hasattr(torch.backends.mps, "get_name"):  # since PyTorch 2.9
            return str(torch.backends.mps.get_name())
        return f"Apple GPU ({platform.processor() or platform.machine()})"

    def limit_enforced_by(self) -> str:
        """Return the allocator's memory fraction."""
        return "the allocator's memory fraction"

    def capacity(self) -> tuple[int, int]:
        """Return Metal's recommended maximum (or the limit), and 0 bytes outside it: Metal counts its own share."""
        return self._limit or self._total, 0

    @property
    def memory_limit(self) -> int | None:
        """The memory limit in the config."""
        return self._limit

    def new_tracker(self) -> StorageTracker:
        """Return a tracker that also samples the driver whenever a storage is allocated."""
        return StorageTracker(self.device, on_alloc=self._sample)

    def start_trial(self) -> None:
        """Return all cached memory to Metal, then start the trial."""
        self._backend.empty_cache()
        super().start_trial()

    def set_limit(self) -> None:
        """Make the allocator raise above the capacity."""
        self._backend.set_per_process_memory_fraction(self.capacity()[0] / self._total)

    def remove_limit(self) -> None:
        """Allow 1.7 times the recommended maximum, PyTorch's default (PYTORCH_MPS_HIGH_WATERMARK_RATIO)."""
        self._backend.set_per_process_memory_fraction(1.7)

    def synchronize(self) -> None:
        """Wait for all kernels of the phase."""
        self._backend.synchronize()

    def peak_stats(self) -> PeakStats:
        """Return the tensors' peak and the highest sample of the driver."""
        self._sample()
        tensors = self.tracker.phase_peak_bytes
        return PeakStats(tensors, tensors, max(tensors, self._peak))

    def reset_peak(self) -> None:
        """Reset the peak to the current use."""
        self._peak = int(self._backend.driver_allocated_memory())

    def allocated_bytes(self) -> int:
        """Return the bytes of all living tensors."""
        return self.tracker.live_bytes

    def empty_cache(self) -> None:
        """Return cached memory to Metal."""
        self._backend.empty_cache()

    def _sample(self) -> None:
        self._peak = max(self._peak, int(self._backend.driver_allocated_memory()))
