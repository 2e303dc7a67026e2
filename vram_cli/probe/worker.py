"""The child process in which trials run, spoken to over its pipes; `child.py` starts it.

It holds one CUDA context and one import of torch from trial to trial. It ignores Ctrl-C (the parent decides) and dies
with its parent: when the pipe from it closes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vram_cli.errors import ConfigError, CutShortError, MachineError, VramError, WorkloadError
from vram_cli.probe.wire import REPLY, REQUEST, Course, Entered, Look, Looked, Order, Refused, Reply, Train

if TYPE_CHECKING:
    from vram_cli.config import Config
    from vram_cli.probe.learner import Learner
    from vram_cli.probe.serving import Trials


def main() -> None:
    """Serve the parent until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(all_threads=False)
    replies = _claim_stdout()
    lines = _listen(_claim_stdin())

    def say(reply: Reply) -> None:
        replies.write(REPLY.dump_json(reply).decode() + "\n")
        replies.flush()

    _serve(lines, say)


def _serve(lines: queue.Queue[str], say: Callable[[Reply], None]) -> None:
    trials: Trials | None = None
    learner: Learner | None = None
    while True:
        request = REQUEST.validate_json(lines.get())
        with _refusing(say):
            if isinstance(request, Order):
                trials = _open(request)
                say(trials.ready)
            elif isinstance(request, Look):
                say(_look(request))
            elif isinstance(request, Course):
                learner = _enrol(request)
            elif isinstance(request, Train):
                if learner is not None:
                    say(learner.train(request, say))
            elif trials is not None:
                say(trials.run(request, lambda phase: say(Entered(phase=phase))))


@contextlib.contextmanager
def _refusing(say: Callable[[Reply], None]) -> Iterator[None]:
    """Tell the parent of errors that are meant for people; whether there is a next request is for it to say."""
    try:
        yield
    except VramError as error:
        kind = next((base for base in (ConfigError, CutShortError, MachineError) if isinstance(error, base)), None)
        told = error.traceback if isinstance(error, WorkloadError) else ""
        name = kind.__name__ if kind else "ProbeError"
        say(Refused(error=name, message=error.message, hint=error.hint, traceback=told))
    except Exception as error:
        from vram_cli.probe.failures import words_of
        from vram_cli.workload import blame

        if not blame(error):
            raise
        trace = "".join(traceback.format_exception(error))
        hint = "the traceback above is from the code that the config names; mend that first"
        say(Refused(error="WorkloadError", message=words_of(error), hint=hint, traceback=trace))


def _open(order: Order) -> Trials:
    from vram_cli.probe.serving import open_trials

    return open_trials(_config(order), download=order.download, calibrated=order.calibrated, timed=order.timed)


def _look(request: Look) -> Looked:
    from vram_cli.probe.looking import look

    return look(_config(request), download=request.download, samples=request.samples)


def _enrol(course: Course) -> Learner:
    from vram_cli.probe.learner import Learner

    return Learner(_config(course), course)


def _config(request: Order | Look | Course) -> Config:
    from vram_cli.config import Config
    from vram_cli.workload import look_in

    if request.folder:
        look_in(Path(request.folder))
    return Config.model_validate(request.config)


def _claim_stdout() -> TextIO:
    """Keep standard output for replies; whatever else prints there goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _claim_stdin() -> TextIO:
    """Keep standard input for requests; whatever else asks there finds its end."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


def _listen(stdin: TextIO) -> queue.Queue[str]:
    """Read lines in a thread, which ends the process when the parent is gone, in the middle of a trial too."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines
