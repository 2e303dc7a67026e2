"""Run a function in a fork of this process, which has imported what the function needs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from vram_cli.probe.process_tree import kill_group

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def run_in_fork(work: Callable[[Callable[[str], None]], NoReturn], on_line: Callable[[str], object]) -> int:
    """Run a function in a fork, and return its exit code; that of a process ended by a signal is negative.

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
        try:
            work(lambda line: _write(writer, line.encode() + b"\n"))
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


def is_last(line: str) -> bool:
    """Return whether a line is the answer that ends a trial."""
    return '"kind":"phase_started"' not in line[:40]


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@contextmanager
def _ended_with_parent(pid: int) -> Iterator[list[int]]:
    """Wait for a process and kill its group; the list holds its status afterwards."""
    status = [0]
    try:
        yield status
        status[0] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        kill_group(pid)
        with suppress(ChildProcessError):
            while True:  # orphans that this process has adopted: they hold memory until they have ended
                os.waitpid(-pid, 0)


def _begin() -> None:
    """Start a session, whose processes can be ended together, and end if the parent does."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
