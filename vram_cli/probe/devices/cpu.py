"""The CPU under a byte budget that the system enforces: real out-of-memory errors without a GPU.

On Linux the budget is `RLIMIT_DATA`, counted from the start of each trial: it is what training itself may allocate,
the interpreter and its libraries not included. Other systems do not enforce such a limit; there the parent process
watches resident memory (see `process.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
import time
from pathlib import Path

import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats
from vram_cli.probe.devices.process_memory import ENFORCED, ProcessMemory
from vram_cli.probe.worker_process import HEAP_PAD
from vram_cli.records import Device

DEFAULT_SHARE = 0.8
"""Of the RAM that is available when no budget is given."""


SAMPLE_SECONDS = 0.002
"""Between two looks at the data segment: a kernel's scratch that matters lives longer."""


class CpuMonitor(MemoryMonitor):
    """Counts tensors by the ledger, and the process's data segment by the system."""

    needs_ledger = True

    def __init__(self, memory_limit_bytes: int | None) -> None:
        self._counter = ProcessMemory()
        super().__init__(torch.device("cpu"))
        # Threads are made at the first parallel operation, and a thread's stack counts as data.
        torch.ones(1 << 20).mul_(2).sum()
        self._budget = memory_limit_bytes
        self._capacity = memory_limit_bytes or int(available_bytes() * DEFAULT_SHARE)
        self._base = self._peak = self._heap = 0
        self._lock = threading.Lock()
        self._watching = False

    def describe(self) -> Device:
        """Return the processor, with the budget as its capacity."""
        return Device(
            kind="real",
            name=f"CPU ({_processor_name()})",
            type="cpu",
            capacity_bytes=self._capacity,
            memory_limit_bytes=self._budget,
            limit_enforced_by="RLIMIT_DATA" if ENFORCED else "a guard on resident memory",
        )

    def capacity(self) -> tuple[int, int]:
        """Return the budget; nothing of it lies outside, since it is counted from the start of the trial."""
        return self._capacity, 0

    def new_ledger(self) -> StorageTracker:
        """Return a ledger that samples the data segment at every birth of a storage, too."""
        return StorageTracker(self.device, on_alloc=self._sample)

    def begin(self) -> None:
        """Start to sample with the first trial: a meter that only describes the device takes no time of its steps."""
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, daemon=True).start()
        super().begin()

    def apply_limit(self) -> None:
        """Limit the data segment to its present size and the budget."""
        # The heap that is free already can hold small tensors, so it counts as taken from the start. In whole pads, and
        # not less than before: a few KiB more or less would move the limit from one trial to the next.
        free = self._counter.free_heap()
        if free > self._heap:
            self._heap = (free // HEAP_PAD + 1) * HEAP_PAD
        self._base = self._counter.data() - self._heap
        if ENFORCED:
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            limit = self._base - self._counter.stack() + max(self._capacity, self._heap)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def lift_limit(self) -> None:
        """Take the limit off."""
        if ENFORCED:
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

    def read(self) -> PeakStats:
        """Return what tensors take by the ledger, or all that the data segment grew by beyond the free heap.

        The difference is scratch that kernels take and free within an operation, which no ledger sees.
        """
        self._sample()
        grown = self._peak - self._base
        taken = max(self.ledger.phase_peak_bytes, grown - self._heap)
        return PeakStats(taken, taken, max(taken, grown))

    def reset(self) -> None:
        """Count from what is in use now."""
        with self._lock:
            self._peak = self._counter.data()

    def allocated_now(self) -> int:
        """Return the bytes of all living tensors."""
        return self.ledger.live_bytes

    def end(self) -> None:
        """Give freed heap pages back to the system."""
        if ENFORCED:
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
            if trim is not None:
                trim(HEAP_PAD)

    def _watch(self) -> None:
        """Sample all the time, from a thread of its own: kernels run without Python's lock."""
        while True:
            time.sleep(SAMPLE_SECONDS)
            with contextlib.suppress(MemoryError):  # at the very limit; the next look will do
                self._sample()

    def _sample(self) -> None:
        with self._lock:
            self._peak = max(self._peak, self._counter.data())


def _processor_name() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
