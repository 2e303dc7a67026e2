"""A worker process that is a fork of this one, so that it has all of this one's objects."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import IO

from vram_cli.probe.worker.main import Service, run
from vram_cli.probe.worker_process import Process, WorkerProcess

_POLL_SECONDS = 0.005


class ForkedProcess:
    """A fork of this process that runs a function and exits, with the interface of `subprocess.Popen`.

    It leads a session of its own, its standard streams are pipes, and no `finally` and no exit handler of this process
    runs in it.

    Raises:
        OSError: the system starts no further process.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        (stdin, ours), (stdout, out), (stderr, err) = pipes
        sys.stdout.flush()
        try:
            self.pid = _fork()
        except OSError:
            for descriptor in (stdin, ours, stdout, out, stderr, err):
                os.close(descriptor)
            raise
        if self.pid == 0:
            _run_as_child(function, (stdin, out, err), (ours, stdout, stderr))
        for descriptor in (stdin, out, err):
            os.close(descriptor)
        self.stdin: IO[bytes] = os.fdopen(ours, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb")
        self.stderr: IO[bytes] = os.fdopen(stderr, "rb")
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # other code of this process has waited for all children
                pid, status = self.pid, 0
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return code

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class ForkedWorker(WorkerProcess):
    """A worker that is a fork of this process.

    Args:
        environment: variables that are added to this process's own, for libraries that read them later.
        service: handles its requests.
    """

    def __init__(self, environment: Mapping[str, str], service: Service) -> None:
        self._service = service
        super().__init__(environment)

    def _started(self, environment: Mapping[str, str], entry: str) -> Process:  # noqa: ARG002 - it starts no program
        def serve() -> None:
            os.environ.update(environment)
            run(self._service, in_new_thread=True)

        return ForkedProcess(serve)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads whose locks the fork would keep. It waits for none of them: its output goes to
        # pipes of its own, and its training runs in a thread of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _run_as_child(function: Callable[[], object], streams: tuple[int, int, int], others: tuple[int, int, int]) -> None:
    """Run a function in the fork, and end that."""
    code = 1
    try:
        os.setsid()
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        for descriptor in (*streams, *others):
            os.close(descriptor)
        # Those of a notebook send to the kernel, through threads that the fork does not have.
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(each, mode) for each, mode in enumerate(("r", "w", "w")))
        function()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of this process may run on in its fork
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
