"""The worker process as the operating system sees it: pipes, signals, resident memory. One request at a time."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, cast

import psutil
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from vram_cli.errors import MachineError, VramError
from vram_cli.probe import last_words
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.messages import REPLY, Event, Refused
from vram_cli.probe.pipes import LastPart, Lines, PipeReader
from vram_cli.probe.process_tree import kill_descendants, kill_group
from vram_cli.records import Outcome

ENTRY = "vram_cli.probe.worker.main"
"""The module whose `main` a worker runs."""

POLL_SECONDS = 0.05
"""Time to wait for a message between checks of the limits."""

HOST_FLOOR_BYTES = 256 * 1024**2
"""RAM that must stay available. If less is left, the worker is ended before the kernel kills another process."""

_START = """
import sys
sys.path = [folder for folder in sys.path if folder]
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("vram_cli", sys.argv.pop())
sys.modules["vram_cli"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["vram_cli"])
import_module(sys.argv.pop()).main()
"""
"""`python -m` searches the current folder first, in which a file may shadow one of Python's own modules. So this script
removes that folder, and imports vram from the location that this process uses."""

_PACKAGE = os.fspath(Path(__file__).resolve().parents[1] / "__init__.py")


class WorkerStopped(Exception):  # noqa: N818 - an outcome for the caller to interpret, not an error yet
    """A worker did not reply.

    Attributes:
        outcome: KILLED (the process ended), TIMED_OUT, HOST_MEMORY, OUT_OF_MEMORY (above its resident limit), or ERROR
            (code in the process disturbed its pipes).
        message: the reason; for KILLED and ERROR, the predicate of a sentence whose subject is the process.
    """

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
"""Signals that a process causes itself, by what its code does."""


class Process(Protocol):
    """The part of `subprocess.Popen` that a worker uses."""

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    @property
    def stdin(self) -> IO[bytes] | None:
        """The pipe to it."""
        ...

    @property
    def stdout(self) -> IO[bytes] | None:
        """The pipe from its standard output."""
        ...

    @property
    def stderr(self) -> IO[bytes] | None:
        """The pipe from its standard error."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


def start_process(environment: Mapping[str, str], entry: str) -> subprocess.Popen[bytes]:
    """Start the process of a worker, in a session of its own, with pipes as its standard streams.

    Args:
        environment: variables that are added to this process's own.
        entry: module whose `main` the process runs.

    Raises:
        OSError: the system starts no further process.
    """
    return subprocess.Popen(  # noqa: S603 - our own code, in our own Python
        [sys.executable, "-c", _START, entry, _PACKAGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )


class WorkerProcess:
    """A running worker, in a session of its own: Ctrl-C reaches only this process.

    Args:
        environment: variables that are added to this process's own.
        entry: module whose `main` the process runs.
        replies: validates the worker's messages.

    Raises:
        MachineError: the system starts no further process.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        entry: str = ENTRY,
        replies: TypeAdapter[Any] = REPLY,
    ) -> None:
        self._adapter = replies
        self._messages: queue.Queue[bytes | None] = queue.Queue()
        try:
            self._process = self._started(environment, entry)
        except OSError as error:
            hint = "close other programs, or raise the limit: `ulimit -n` for files, `ulimit -u` for processes"
            raise MachineError(f"the worker process cannot be started: {error.strerror}", hint) from None
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._last_part = LastPart()
        self._stdout = PipeReader(cast("IO[bytes]", self._process.stdout), Lines(self._messages.put))
        self._stderr = PipeReader(cast("IO[bytes]", self._process.stderr), self._last_part)

    def _started(self, environment: Mapping[str, str], entry: str) -> Process:
        return start_process(environment, entry)

    def send(self, message: Any) -> None:
        """Send a message that has no reply; `request` notices if the process has ended."""
        with contextlib.suppress(OSError):
            self._stdin.write(to_json(message) + b"\n")
            self._stdin.flush()

    def request(
        self,
        message: Any,
        on_event: Callable[[Any], None] = lambda _: None,
        *,
        timeout: float,
        is_per_event: bool = False,
        max_resident_bytes: int | None = None,
    ) -> Any:
        """Send a message and return its reply.

        Args:
            message: a record of `messages`.
            on_event: called with each event that comes before the reply.
            timeout: seconds to wait for the reply.
            is_per_event: whether the timeout starts again with each event.
            max_resident_bytes: resident memory above which the wait ends, on systems that enforce no limit.

        Raises:
            WorkerStopped: no reply came. The process may still run; `end` it.
            VramError: the worker refused the message.
        """
        self.send(message)
        started = checked = time.monotonic()
        while True:
            reply = self._receive()
            if isinstance(reply, Refused):
                raise reply.to_error()
            if isinstance(reply, Event):
                on_event(reply)
                started = time.monotonic() if is_per_event else started
                # Short steps send events continuously: check the limits regularly, but not after each event.
                if time.monotonic() - checked < POLL_SECONDS:
                    continue
            elif reply is not None:
                return reply
            checked = time.monotonic()
            self._check_limits(checked - started, timeout, max_resident_bytes)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def exited(self) -> bool:
        """Whether the process has ended by exiting, and not by a signal or an error of vram."""
        code = self._process.poll()
        return code is not None and code >= 0 and code != VramError.exit_code

    @property
    def signal_from_outside(self) -> str:
        """The signal that ended the process, if another process or the kernel sent it; "" otherwise."""
        code = self._process.poll()
        name = _signal_name(-code) if code is not None and code < 0 else ""
        return "" if name in _CRASHES else name

    def ending(self) -> str:
        """Return how the process ended: "ended with exit code 3" or "was ended by SIGABRT"."""
        code = self._process.poll()
        if code is not None and code < 0:
            return f"was ended by {_signal_name(-code)}"
        return f"ended with exit code {code}"

    def stderr(self) -> str:
        """Return the last part of what the process has written to standard error."""
        if self.has_ended:
            self._stderr.drain()
        return self._last_part.text()

    def crashed_in(self, folder: str) -> bool:
        """Return whether the process crashed while running code from a folder."""
        return last_words.crashed_in(self.stderr(), folder)

    def kill(self) -> None:
        """Kill the process and those that it started, and return at once; a `request` in another thread notices."""
        if not self.has_ended:
            kill_descendants(self.pid)
        self._process.kill()
        self._kill_others()

    def end(self) -> None:
        """Kill the process and free its resources. GPU memory is free once the process is reaped."""
        self.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # unsent text for a process that was killed
            self._stdin.close()
        self._stdout.close()
        self._stderr.close()

    def _receive(self) -> Any:
        """Return the next message, or None if there is none within `POLL_SECONDS` or the process has ended."""
        try:
            line = self._messages.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None
        if line is None:
            self._wait_for_end()
            return None
        try:
            return self._adapter.validate_json(line)
        except ValidationError:
            text = line[:80].decode(errors="replace")
            raise WorkerStopped(Outcome.ERROR, f"wrote {text!r} into the pipe of its answers") from None

    def _wait_for_end(self) -> None:
        """Wait for the end of a process that has closed its pipe."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            raise WorkerStopped(Outcome.ERROR, "closed the pipe of its answers") from None

    def _check_limits(self, seconds: float, timeout: float, max_resident_bytes: int | None) -> None:
        if self.has_ended:
            self._kill_others()  # one of them may hold the pipe open
            self._stdout.drain()
            if self._messages.empty():
                raise WorkerStopped(Outcome.KILLED, self.ending())
        if seconds > timeout:
            raise WorkerStopped(Outcome.TIMED_OUT, f"stopped after {seconds:.0f} s")
        if max_resident_bytes is not None and self._resident_bytes() > max_resident_bytes:
            raise WorkerStopped(Outcome.OUT_OF_MEMORY, "resident memory grew above the memory limit")
        if available_bytes() < HOST_FLOOR_BYTES:
            raise WorkerStopped(Outcome.HOST_MEMORY, "the computer was about to run out of RAM")

    def _kill_others(self) -> None:
        """Kill the processes that the worker has started in its session."""
        kill_group(self.pid)

    def _resident_bytes(self) -> int:
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
