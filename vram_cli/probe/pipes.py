"""Pipes from a process, read in threads: complete lines, and the last part of what it wrote."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import IO

_CHUNK_BYTES = 1 << 16
_GRACE_SECONDS = 1.0
"""Time to wait for what is still in the pipe of a process that has ended. Another process may hold the pipe open."""


class PipeReader:
    """Reads a pipe to its end in a thread.

    Args:
        pipe: the pipe, which `close` closes.
        receive: called with each piece that arrives.
    """

    def __init__(self, pipe: IO[bytes], receive: Callable[[bytes], None]) -> None:
        self._pipe, self._receive = pipe, receive
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Wait for the rest of what a process that has ended wrote."""
        self._thread.join(_GRACE_SECONDS)

    def close(self) -> None:
        """Close the pipe of a process that has ended, unless another process holds it open and is being waited for."""
        self.drain()
        if not self._thread.is_alive():
            self._pipe.close()

    def _read(self) -> None:
        # Not through the buffer of the pipe's object: if this thread outlives the interpreter, its lock is fatal.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._pipe.fileno(), _CHUNK_BYTES):
                self._receive(chunk)
        self._receive(b"")


class Lines:
    """Splits what arrives into lines.

    Args:
        receive: called with each complete line, and with None at the end.
    """

    def __init__(self, receive: Callable[[bytes | None], None]) -> None:
        self._receive, self._rest = receive, bytearray()

    def __call__(self, chunk: bytes) -> None:
        """Receive a chunk; an empty one is the end."""
        if not chunk:
            self._receive(None)
        for line in self._complete(chunk):
            self._receive(line)

    def _complete(self, chunk: bytes) -> Iterator[bytes]:
        self._rest += chunk
        if b"\n" in chunk:
            *lines, rest = self._rest.split(b"\n")
            self._rest = rest
            yield from map(bytes, lines)


class LastPart:
    """Keeps the last part of what arrives: a program may write without end."""

    def __init__(self, limit_bytes: int = 1 << 20) -> None:
        self._limit, self._content = limit_bytes, bytearray()

    def __call__(self, chunk: bytes) -> None:
        """Receive a chunk."""
        self._content += chunk
        if len(self._content) > 2 * self._limit:
            del self._content[: -self._limit]

    def text(self) -> str:
        """Return the last part as text."""
        return self._content[-self._limit :].decode(errors="replace")
