"""The child process in which real trials run: `python -m vram_cli.probe.worker`, spoken to over its pipes.

It holds one CUDA context and one import of torch from trial to trial. It ignores Ctrl-C (the parent decides) and dies
with its parent: when the pipe from it closes.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vram_cli.errors import ConfigError, MachineError, VramError
from vram_cli.probe.wire import REPLY, REQUEST, Entered, Look, Looked, Order, Refused, Reply

if TYPE_CHECKING:
    from vram_cli.config import Config
    from vram_cli.probe.serving import Trials


def main() -> None:
    """Serve the parent until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.path[0] in ("", str(Path.cwd())):
        # `python -m` looks in the current folder first: a file there must not stand for a package of its name.
        sys.path.append(sys.path.pop(0))
    replies = _claim_stdout()
    lines = _listen(sys.stdin)

    def say(reply: Reply) -> None:
        replies.write(REPLY.dump_json(reply).decode() + "\n")
        replies.flush()

    try:
        _serve(lines, say)
    except VramError as error:
        kind = next((base for base in (ConfigError, MachineError) if isinstance(error, base)), None)
        say(Refused(error=kind.__name__ if kind else "ProbeError", message=error.message, hint=error.hint))
    except Exception as error:
        from vram_cli.probe.failures import words_of
        from vram_cli.workload import blame

        if not blame(error):
            raise
        trace = "".join(traceback.format_exception(error))
        hint = "the traceback above is from the code that the config names; mend that first"
        say(Refused(error="WorkloadError", message=words_of(error), hint=hint, traceback=trace))


def _serve(lines: queue.Queue[str], say: Callable[[Reply], None]) -> None:
    trials: Trials | None = None
    while True:
        request = REQUEST.validate_json(lines.get())
        if isinstance(request, Order):
            trials = _open(request)
            say(trials.ready)
        elif isinstance(request, Look):
            say(_look(request))
        elif trials is not None:
            say(trials.run(request, lambda phase: say(Entered(phase=phase))))


def _open(order: Order) -> Trials:
    from vram_cli.probe.serving import open_trials

    return open_trials(_config(order), download=order.download, calibrated=order.calibrated)


def _look(request: Look) -> Looked:
    from vram_cli.probe.looking import look

    return look(_config(request), download=request.download, samples=request.samples)


def _config(request: Order | Look) -> Config:
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


def _listen(stdin: TextIO) -> queue.Queue[str]:
    """Read lines in a thread, which ends the process when the parent is gone, in the middle of a trial too."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    main()
