"""The main loop of the worker process: it answers requests from its parent over pipes, one JSON object per line.

The process keeps its CUDA context and its imports from trial to trial. It ignores Ctrl-C, which the parent handles, and
exits when the parent closes the pipe.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO

from pydantic import TypeAdapter

from vram_cli.errors import ConfigError, MachineError, VramError, WorkloadError
from vram_cli.probe.messages import (
    REPLY,
    REQUEST,
    ImportTorch,
    InspectWorkload,
    OpenSession,
    PhaseStarted,
    Refused,
    Request,
    TorchImported,
)
from vram_cli.probe.process_tree import adopt_orphans, kill_descendants, kill_group
from vram_cli.virtual_gpu.attached import detach_children

if TYPE_CHECKING:
    from vram_cli.config import Config
    from vram_cli.probe.worker.trials import Trials


_LOWEST_DESCRIPTOR = 500
"""Number of the pipes' descriptors, at least: above those that daemons close and that loops over a few numbers use."""


class Service(Protocol):
    """Handles the requests of a worker process."""

    requests: TypeAdapter[Any]
    replies: TypeAdapter[Any]

    def handle(self, request: Any, send: Callable[[Any], None]) -> Any:
        """Return the reply to a request, or None if it has none; `send` sends events before the reply."""
        ...


class TrialService:
    """Runs trials, real or predicted, and inspects workloads."""

    requests: TypeAdapter[Any] = REQUEST
    replies: TypeAdapter[Any] = REPLY

    def __init__(self) -> None:
        self._trials: Trials | None = None

    def handle(self, request: Request, send: Callable[[Any], None]) -> Any:
        """Import torch, open a session, inspect a workload, or run a trial of the open session."""
        if isinstance(request, ImportTorch):
            return import_torch("vram_cli.probe.worker.trials")
        if isinstance(request, OpenSession):
            self._trials = self.open(request)
            return self._trials.ready
        if isinstance(request, InspectWorkload):
            from vram_cli.probe.worker.inspect_workload import inspect_workload

            config = read_config(request.config, request.folder)
            return inspect_workload(config, download=request.download, samples=request.samples)
        if self._trials is None:
            return None
        return self._trials.run(request, lambda phase: send(PhaseStarted(phase=phase)))

    def open(self, request: OpenSession) -> Trials:
        """Return the trials of a session."""
        from vram_cli.probe.worker.trials import open_trials

        return open_trials(
            read_config(request.config, request.folder),
            download=request.download,
            calibrated=request.calibrated,
            timed=request.timed,
            virtual=request.virtual,
            warm=request.warm,
            place=request.place,
        )


def import_torch(module: str) -> TorchImported:
    """Import the module of a service, with PyTorch."""
    gc.disable()  # nothing of it is garbage: to look for some takes a fifth of the start
    import_module(module)
    gc.freeze()
    gc.enable()
    return TorchImported()


def main() -> None:
    """Serve trials until the parent closes the pipe."""
    run(TrialService())


def run(service: Service, *, in_new_thread: bool = False) -> None:
    """Serve the parent until it closes the pipe.

    An error of vram exits with its own code: Python's would look as if the user's code had exited.

    Args:
        service: handles the requests.
        in_new_thread: whether requests are handled in a thread made for that. In a fork, OpenMP waits for ever for the
            threads that this one had, and makes new ones for a new thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    detach_children()
    faulthandler.enable(all_threads=False)
    replies = _claim_stdout()
    lines = _read_lines(_claim_stdin())
    pid = os.getpid()

    def write(line: str) -> None:
        if os.getpid() != pid:  # the user's code forked this process, and both continue
            os._exit(0)
        replies.write(line + "\n")
        replies.flush()

    def answer() -> None:
        try:
            serve(service, lines, write)
        except BaseException as error:  # noqa: BLE001 - the parent shows the last words
            traceback.print_exc()
            os._exit(_exit_code(error))  # at once: threads and exit handlers of the user's code may take any time

    if in_new_thread:
        thread = threading.Thread(target=answer)
        thread.start()
        thread.join()
    else:
        answer()


def _exit_code(error: BaseException) -> int:
    """Return the exit code for an uncaught error: 70 for one of vram, and 1 if the user's code is the reason."""
    closes_all_files = isinstance(error, OSError) and error.errno == errno.EBADF
    return VramError.exit_code if isinstance(error, Exception) and not closes_all_files else 1


def serve(service: Service, lines: queue.Queue[str], write: Callable[[str], None]) -> NoReturn:
    """Answer requests in order, without end."""

    def send(reply: Any) -> None:
        write(service.replies.dump_json(reply).decode())

    while True:
        request = service.requests.validate_json(lines.get())
        try:
            reply = service.handle(request, send)
        except Exception as error:
            reply = _refusal(error)
            if reply is None:
                raise
        if reply is not None:
            send(reply)


def read_config(values: dict[str, Any], folder: str) -> Config:
    """Return the config of a request. The code that it names is imported from `folder` first, if set."""
    from vram_cli.config import Config
    from vram_cli.workload import add_import_path

    if folder:
        add_import_path(Path(folder))
    return Config.model_validate(values)


def _refusal(error: Exception) -> Refused | None:
    """Return the reply for an error that the user can fix, or None for a bug."""
    if isinstance(error, VramError):
        kind = next((base for base in (ConfigError, MachineError) if isinstance(error, base)), None)
        trace = error.traceback if isinstance(error, WorkloadError) else ""
        name = kind.__name__ if kind else "ProbeError"
        return Refused(error=name, message=error.message, hint=error.hint, traceback=trace)
    if not getattr(error, "vram_key", ""):  # before the import, which may be what failed
        return None
    from vram_cli.workload import error_summary, traceback_of

    hint = "the traceback above comes from the code that the config names; fix that first"
    trace = traceback_of(error)
    return Refused(error="WorkloadError", message=error_summary(error), hint=hint, traceback=trace)


def _claim_stdout() -> TextIO:
    """Reserve standard output for replies; other output goes to standard error."""
    replies = os.fdopen(_private_copy(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _claim_stdin() -> TextIO:
    """Reserve standard input for requests; other readers see the end of the file."""
    requests = os.fdopen(_private_copy(0), encoding="utf-8")
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    return requests


def _private_copy(descriptor: int) -> int:
    """Return a copy that other programs do not inherit, with a number that code does not use by accident."""
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST_DESCRIPTOR)
    except (ImportError, OSError):  # Windows, or a low `ulimit -n`
        return os.dup(descriptor)


def _read_lines(stdin: TextIO) -> queue.Queue[str]:
    """Read lines in a thread that ends the process when the parent has gone, even during a trial."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        try:
            for line in stdin:
                lines.put(line)
        except OSError as error:  # the user's code has closed the pipe; the parent ends what this process started
            os._exit(_exit_code(error))
        kill_descendants(os.getpid())
        kill_group(os.getpid())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines
