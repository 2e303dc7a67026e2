"""The memory of this process, as reported by the system."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import psutil

ENFORCED = sys.platform.startswith("linux")
"""Whether the system makes allocations above RLIMIT_DATA fail."""


class ProcessMemory:
    """Reads Linux's counter (proc(5)), or resident memory on other systems."""

    def __init__(self) -> None:
        # With the file kept open, a reading takes microseconds.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if ENFORCED else None
        self._page = os.sysconf("SC_PAGE_SIZE") if ENFORCED else 1
        self._process = psutil.Process()

    def data(self) -> int:
        """Return the bytes of private writable memory, including the main thread's stack, or resident memory."""
        if self._statm is None:
            return int(self._process.memory_info().rss)
        return int(os.pread(self._statm, 256, 0).split()[5]) * self._page

    def stack(self) -> int:
        """Return the bytes of `data` that are the main thread's stack, which `RLIMIT_DATA` does not limit."""
        if not ENFORCED:
            return 0
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmStk:")), 0)

    def free_heap(self) -> int:
        """Return the bytes of free heap in the C library; 0 if it does not report them (only glibc does)."""
        mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None) if ENFORCED else None  # since glibc 2.33
        if mallinfo2 is None:
            return 0
        mallinfo2.restype = _MallInfo
        return int(mallinfo2().fordblks)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h: ten sizes, of which `fordblks` is the free space."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]
