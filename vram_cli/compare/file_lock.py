"""A lock on an open file, which the system releases when the file is closed, even if the process is killed."""

from __future__ import annotations

import errno
import sys
from typing import IO

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_BEYOND = 1 << 62
"""Offset of the byte that is locked on Windows, where a lock prevents reading."""


class FileLockedError(Exception):
    """Another process holds the lock."""


def lock(file: IO[bytes]) -> None:
    """Lock a file; do nothing on a file system without locks.

    Raises:
        FileLockedError: another process holds the lock.
    """
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _HELD:
            raise FileLockedError from None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        position = file.tell()
        file.seek(_BEYOND)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(position)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
