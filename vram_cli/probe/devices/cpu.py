"""The CPU under a memory limit that the system enforces: real out-of-memory errors without a GPU.

On Linux the limit is `RLIMIT_DATA`, counted from the start of each trial: it covers the memory of the training,
without the interpreter and its libraries. Other systems enforce no such limit; there the parent process watches
resident memory (see `worker_process.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
import time
from pathlib import Path

import psutil
import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.probe.devices.host_memory import default_capacity
from vram_cli.probe.devices.malloc import HEAP_PAD_BYTES
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats
from vram_cli.probe.devices.process_memory import ENFORCED, ProcessMemory

SAMPLE_SECONDS = 0.002
"""Interval between samples of the data segment; kernel scratch of any size lives longer."""


class CpuMonitor(MemoryMonitor):
    """Measures tensors with the storage tracker, and the process's data segment with the system's counter."""

    has_peak_counters = False
    limits_timed_steps = False  # enforcing it needs malloc settings that slow steps down

    def __init__(self, memory_limit: int | None, capacity: int | None = None) -> None:
        self._memory = ProcessMemory()
        super().__init__(torch.device("cpu"))
        # Threads are created at the first parallel operation, and their stacks count as data.
        torch.ones(1 << 20).mul_(2).sum()
        self._limit = memory_limit
        self._capacity = memory_limit or capacity or default_capacity()
        self._base = self._peak = self._heap = self._inherited_heap = 0
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._is_sampling = False

    def name(self) -> str:
        """Return the processor's name and the number of cores that this process may use."""
        return f"CPU ({_processor_name()})"

    def limit_enforced_by(self) -> str:
        """Return "RLIMIT_DATA" on Linux, the parent's guard on other systems."""
        return "RLIMIT_DATA" if ENFORCED else "a guard on resident memory"

    def capacity(self) -> tuple[int, int]:
        """Return the limit, and 0 bytes outside it, since it is counted from the start of the trial."""
        return self._capacity, 0

    @property
    def memory_limit(self) -> int | None:
        """The memory limit in the config."""
        return self._limit

    @property
    def guard_bytes(self) -> int | None:
        """Resident memory above which the parent ends the process, on systems other than Linux."""
        return None if ENFORCED else int(psutil.Process().memory_info().rss) + self._capacity

    def new_tracker(self) -> StorageTracker:
        """Return a tracker that also samples the data segment whenever a storage is allocated."""
        return StorageTracker(self.device, on_alloc=self._sample)

    def start_trial(self) -> None:
        """Start sampling with the first trial: a monitor that only describes the device must not slow its steps."""
        if not self._is_sampling:
            self._is_sampling = True
            threading.Thread(target=self._sample_forever, daemon=True).start()
        super().start_trial()

    def start_in_fork(self) -> None:
        """Leave free heap of before out of account: it is of any size, and too small for tensors (`malloc.py`)."""
        self._inherited_heap = self._memory.free_heap()

    def set_limit(self) -> None:
        """Limit the data segment to its present size plus the capacity."""
        # Free heap can hold small tensors, so it counts as used from the start. It is rounded up to whole pads and
        # never decreases: otherwise a few KiB would move the limit from one trial to the next.
        free = self._memory.free_heap() - self._inherited_heap
        if free > self._heap:
            self._heap = (free // HEAP_PAD_BYTES + 1) * HEAP_PAD_BYTES
        self._base = self._memory.data() - self._heap
        self._enforce()

    def count_as_used(self, size: int) -> None:
        """Count bytes as part of the trial's growth."""
        self._base -= size
        self._enforce()

    def _enforce(self) -> None:
        if ENFORCED:
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            limit = self._base - self._memory.stack() + max(self._capacity, self._heap)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def remove_limit(self) -> None:
        """Remove the limit."""
        if ENFORCED:
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

    def peak_stats(self) -> PeakStats:
        """Return the tensors' peak, or the growth of the data segment beyond the free heap if that is more.

        The difference is scratch that kernels allocate and free within an operation, which no tracker sees.
        """
        self._sample()
        growth = self._peak - self._base
        allocated = max(self.tracker.phase_peak_bytes, growth - self._heap)
        return PeakStats(allocated, allocated, max(allocated, growth))

    def reset_peak(self) -> None:
        """Reset the peak to the current use."""
        with self._lock:
            self._peak = self._memory.data()

    def allocated_bytes(self) -> int:
        """Return the bytes of all living tensors."""
        return self.tracker.live_bytes

    def empty_cache(self) -> None:
        """Return freed heap pages to the system."""
        if ENFORCED:
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
            if trim is not None:
                trim(HEAP_PAD_BYTES)

    def _sample_forever(self) -> None:
        """Sample in a thread, which also runs during kernels, since they release the GIL."""
        while True:
            time.sleep(SAMPLE_SECONDS)
            with contextlib.suppress(MemoryError):  # close to the limit; the next sample replaces it
                self._sample()

    def _sample(self) -> None:
        if os.getpid() != self._pid:  # a worker of a DataLoader: its fork may have caught the lock closed
            return
        with self._lock:
            self._peak = max(self._peak, self._memory.data())


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines()) if cpuinfo.exists() else ()
    found = (value.strip() for key, _, value in lines if key.strip() == "model name")
    name = next(found, "") or platform.processor() or platform.machine()  # the second one starts a program
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
