"""Run `vram` commands: in a separate process, or in this process if that tests the same and takes less time."""

from __future__ import annotations

import io
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic_core import to_json

from vram_cli.cli import run_command
from vram_cli.probe.messages import REPLY
from vram_cli.probe.worker.main import TrialService, serve
from vram_cli.probe.worker_process import POLL_SECONDS, WorkerProcess
from vram_cli.report.console import stderr_console


class Answer(NamedTuple):
    code: int
    stdout: str
    stderr: str


def vram(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, timeout: float = 300, columns: int = 120
) -> Answer:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "vram_cli", *arguments],
        cwd=folder,
        env={**(env or os.environ), "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def vram_here(*arguments: str, folder: Path, env: Mapping[str, str] | None = None, columns: int = 120) -> Answer:
    """Run a command to its end in this process, and what it predicts or looks at in a thread: no import of torch anew.

    For commands without trials and for predictions only: real trials limit the memory of their process. Predictions are
    by fake tensors: the virtual GPU needs a process that starts with its library.
    """
    stderr_console.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {**(env or {}), "COLUMNS": str(columns)}.items():
            patch.setenv(name, value)
        patch.setattr("vram_cli.probe.client.environment_of", lambda *_, **__: {})
        stdout, stderr = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        patch.setattr("vram_cli.probe.client.WorkerProcess", WorkerInThread)
        code = run_command(arguments)
    stderr_console.cache_clear()
    return Answer(code, stdout.getvalue(), stderr.getvalue())


class WorkerInThread(WorkerProcess):
    """Stands in for a `WorkerProcess`: runs the same loop on the same messages, in a thread.

    Removes the user's modules at the end, because those of the next folder may have the same names.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._requests, self._replies = _Requests(), queue.Queue[str | None]()
        self._path, self._modules = [*sys.path], {*sys.modules}
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    pid = os.getpid()
    has_ended = exited = False
    signal_from_outside = ""

    def send(self, message: Any) -> None:
        self._requests.put(to_json(message).decode())

    def kill(self) -> None:
        pass

    def end(self) -> None:
        self._requests.put("")
        self._thread.join()
        folders = {*sys.path} - {*self._path}
        sys.path[:] = self._path
        for name in {*sys.modules} - self._modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and str(Path(file).parent) in folders:
                del sys.modules[name]

    def _receive(self) -> Any:
        try:
            line = self._replies.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None
        assert line is not None, "the worker's thread has failed: its traceback is in the warnings"
        return REPLY.validate_json(line)

    def _check_limits(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        try:
            serve(TrialService(), self._requests, self._replies.put)
        except EOFError:
            pass
        finally:
            self._replies.put(None)


class _Requests(queue.Queue[str]):
    """Lines for the worker; an empty line ends its thread."""

    def get(self, block: bool = True, timeout: float | None = None) -> str:
        line = super().get(block, timeout)
        if not line:
            raise EOFError
        return line
