"""Workers that another process starts for this one, on this machine or another, over a connection between them.

A connection carries frames: a kind, a length, and content. It serves one worker, and closes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping
from typing import IO, Any, cast

from vram_cli.probe.process_tree import kill_descendants, kill_group
from vram_cli.probe.worker_process import ENTRY, Process, WorkerProcess, start_process

_HEADER = struct.Struct("!cI")
_START, _INPUT, _KILL = b"s", b"i", b"k"
"""To the other process: start a worker, write to its standard input, kill it."""
_OUTPUT, _ERRORS, _EXIT = b"o", b"e", b"x"
"""From it: what the worker wrote, and its exit code."""
_LOST = -9
"""Exit code if the connection is lost: the other process has ended, and the worker with it."""
_CHUNK_BYTES = 1 << 16


class Connection:
    """Sends and receives frames."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._lock = connected, threading.Lock()

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send a frame.

        Raises:
            OSError: the connection is lost.
        """
        with self._lock:
            self._socket.sendall(_HEADER.pack(kind, len(content)) + content)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next frame; its kind is empty at the end."""
        try:
            kind, length = _HEADER.unpack(self._read(_HEADER.size))
            return kind, self._read(length)
        except (OSError, EOFError):
            return b"", b""

    def close(self) -> None:
        """Close the connection; a `receive` in another thread ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            chunk = self._socket.recv(min(length - len(content), _CHUNK_BYTES))
            if not chunk:
                raise EOFError
            content += chunk
        return bytes(content)


class _Input:
    """The standard input of a worker at the other end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, content: bytes) -> None:
        self._connection.send(_INPUT, content)

    def flush(self) -> None:
        """Do nothing: frames are sent at once."""

    def close(self) -> None:
        """Do nothing: the connection closes with the worker."""


class RemoteProcess:
    """A worker at the other end of a connection, with the interface of `subprocess.Popen`."""

    pid = 0
    """Not one of this machine."""

    def __init__(self, connection: Connection, environment: Mapping[str, str], entry: str) -> None:
        self._connection, self._code, self._has_ended = connection, _LOST, threading.Event()
        self.stdin = cast("IO[bytes]", _Input(connection))
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        self.stdout: IO[bytes] = os.fdopen(out, "rb")
        self.stderr: IO[bytes] = os.fdopen(err, "rb")
        connection.send(_START, json.dumps({"environment": dict(environment), "entry": entry}).encode())
        threading.Thread(target=self._relay, args=({_OUTPUT: to_out, _ERRORS: to_err},), daemon=True).start()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._code if self._has_ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        if not self._has_ended.wait(timeout):
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._code

    def kill(self) -> None:
        """Kill it and all that it has started."""
        with contextlib.suppress(OSError):
            self._connection.send(_KILL)

    def _relay(self, pipes: Mapping[bytes, int]) -> None:
        """Write what arrives into pipes, until the worker has ended."""
        while True:
            kind, content = self._connection.receive()
            if kind not in pipes:
                break
            with contextlib.suppress(OSError):  # nobody reads any more
                _write_all(pipes[kind], content)
        if kind == _EXIT:
            self._code = int(content)
        for pipe in pipes.values():
            os.close(pipe)
        self._connection.close()
        self._has_ended.set()


class RemoteWorker(WorkerProcess):
    """A worker at the other end of a connection.

    Args:
        environment: variables that are added to those of the process at the other end.
        connection: the connection, which closes as the worker ends.
        entry: module whose `main` the process runs.
    """

    def __init__(self, environment: Mapping[str, str], connection: Connection, *, entry: str = ENTRY) -> None:
        self._connection = connection
        super().__init__(environment, entry=entry)

    def kill(self) -> None:
        """Kill the worker and all that it has started."""
        self._process.kill()

    def _started(self, environment: Mapping[str, str], entry: str) -> Process:
        return RemoteProcess(self._connection, environment, entry)

    def _kill_others(self) -> None:
        """Leave that to the other end."""

    def _resident_bytes(self) -> int:
        return 0  # known at the other end alone


def serve_worker(connection: Connection) -> bool:
    """Start a worker when the other end asks for it, and relay its streams until it ends.

    Returns:
        Whether it was asked for; if not, the other end has gone.
    """
    kind, content = connection.receive()
    if kind != _START:
        return False
    request: dict[str, Any] = json.loads(content)
    process = start_process(request["environment"], request["entry"])
    with process:
        pipes = {_OUTPUT: process.stdout, _ERRORS: process.stderr}
        readers = [threading.Thread(target=_send_all, args=(connection, kind, pipe)) for kind, pipe in pipes.items()]
        orders = threading.Thread(target=_obey, args=(connection, process))
        for thread in (*readers, orders):
            thread.start()
        code = process.wait()
        kill_group(process.pid)  # a process that it started may hold its pipes open
        for thread in readers:
            thread.join()
        with contextlib.suppress(OSError):
            connection.send(_EXIT, str(code).encode())
        connection.close()
        orders.join()
    return True


def _write_all(descriptor: int, content: bytes) -> None:
    """Write without the buffer of a file object, whose rest would be written again as that closes."""
    while content:
        content = content[os.write(descriptor, content) :]


def _send_all(connection: Connection, kind: bytes, pipe: Any) -> None:
    """Send what a pipe carries, to its end, even if nobody receives it: a full pipe would stop the worker."""
    while chunk := os.read(pipe.fileno(), _CHUNK_BYTES):
        with contextlib.suppress(OSError):
            connection.send(kind, chunk)


def _obey(connection: Connection, process: subprocess.Popen[bytes]) -> None:
    """Write input to a worker, and kill it if the other end says so or has gone."""
    stdin = cast("IO[bytes]", process.stdin)
    while True:
        kind, content = connection.receive()
        if kind != _INPUT:
            break
        with contextlib.suppress(OSError):
            _write_all(stdin.fileno(), content)
    if process.poll() is None:
        kill_descendants(process.pid)
        process.kill()
        kill_group(process.pid)
