"""What the system says of this process's memory: its size now, and the highest it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

ENFORCED = sys.platform.startswith("linux")
"""Whether this is a system that makes an allocation above RLIMIT_DATA fail."""

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class ProcessMemory:
    """Reads Linux's counters (proc(5)); elsewhere resident memory stands in for all of them."""

    def __init__(self) -> None:
        # An open file makes a reading cost microseconds.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if ENFORCED else None
        self._page = os.sysconf("SC_PAGE_SIZE") if ENFORCED else 1
        self._process = psutil.Process()
        self._resettable = ENFORCED

    def data(self) -> int:
        """Return the bytes of private writable memory: what `RLIMIT_DATA` counts."""
        return self._field(5)

    def size(self) -> int:
        """Return the bytes of the whole address space."""
        return self._field(0)

    def size_peak(self) -> int:
        """Return the largest that the address space ever was; 0 where the system does not tell. Nothing resets it."""
        return _status("VmPeak:") if ENFORCED else 0

    def resident(self) -> int:
        """Return the bytes of resident memory."""
        return self._field(1)

    def resident_peak(self) -> int:
        """Return the highest resident memory since `reset_resident_peak`; 0 where the system does not tell."""
        return _status("VmHWM:") if self._resettable else 0

    def reset_resident_peak(self) -> None:
        """Start to count the highest resident memory anew; where that is forbidden, it is not told at all."""
        if self._resettable:
            try:
                _CLEAR.write_text("5")  # since Linux 4.0
            except OSError:
                self._resettable = False

    def _field(self, index: int) -> int:
        if self._statm is None:
            return int(self._process.memory_info().rss)
        return int(os.pread(self._statm, 256, 0).split()[index]) * self._page


def _status(key: str) -> int:
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == key), 0)
