"""A worker process and all processes that are started in it: they end together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def adopt_orphans() -> None:
    """Keep processes whose parent has ended as descendants of this one, and continue if this one's own parent ends.

    A process that is stopped cannot notice that its parent has ended. The signal is SIGCONT, which does nothing
    else, because Linux sends it when the parent's thread ends, too. Other systems have no such calls.
    """
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


def kill_descendants(pid: int) -> None:
    """Kill all processes that a process or its descendants have started."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


def kill_group(pid: int) -> None:
    """Kill the process group that a process has led, even if the process itself has ended."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
