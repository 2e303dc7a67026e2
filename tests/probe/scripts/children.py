"""Run functions in children of the test's process, which what they do must not outlive; and compare folders."""

from __future__ import annotations

import ctypes
import hashlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path


def in_child(function: Callable[[], object], user: int | None = None) -> str:
    """Return what a function answers in a child of this process, as text, or its exception."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if user is not None:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its /proc is its own, as after a login
            answer = str(function())
        except BaseException:  # noqa: BLE001
            answer = traceback.format_exc()
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


def checksums(folder: Path) -> dict[str, str]:
    def fact(path: Path) -> str:
        content = path.read_bytes() if path.is_file() else b""
        return f"{path.lstat().st_mode:o} {path.lstat().st_mtime_ns} {hashlib.sha256(content).hexdigest()}"

    return {str(path.relative_to(folder)): fact(path) for path in [folder, *folder.rglob("*")]}
