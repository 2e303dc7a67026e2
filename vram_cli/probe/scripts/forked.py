"""Run a function in a fork of this process, which has imported what the function needs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from typing import NoReturn

from vram_cli.probe.process_tree import kill_group

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class ForkEnded(Exception):  # noqa: N818 - an outcome for the caller to interpret
    """A fork ended without its last message.

    Attributes:
        status: its status, as `os.waitpid` returns it.
    """

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def run_in_fork(work: Callable[[Callable[[str], None]], NoReturn], on_line: Callable[[str], None]) -> int:
    """Run a function in a fork, and return the fork's status, as `os.waitpid` does.

    All processes that the fork starts end with it, unless they leave its session.

    Args:
        work: gets a function that sends a line; it ends the process itself.
        on_line: gets each line.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _begin()
        with os.fdopen(writer, "wb", buffering=0) as lines:
            try:
                work(lambda line: _write(lines, line))
            except BaseException:  # noqa: BLE001 - the parent shows the last words
                traceback.print_exc()
            os._exit(70)
    os.close(writer)
    with _ended_with_parent(pid) as status, os.fdopen(reader, encoding="utf-8") as lines_read:
        for line in lines_read:
            on_line(line)
            if is_last(line):
                break
    return status[0]


def _write(lines: RawIOBase, line: str) -> None:
    lines.write(line.encode() + b"\n")


def is_last(line: str) -> bool:
    """Return whether a line is the answer that ends a trial."""
    return '"kind":"phase_started"' not in line[:40]


@contextmanager
def _ended_with_parent(pid: int) -> Iterator[list[int]]:
    """Wait for a process and kill its group; the list holds its status afterwards."""
    status = [0]
    try:
        yield status
        status[0] = os.waitpid(pid, 0)[1]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        kill_group(pid)


def _begin() -> None:
    """Start a session, whose processes can be ended together, and end if the parent does."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
