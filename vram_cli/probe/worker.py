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
from typing import TextIO

from vram_cli.errors import ConfigError, MachineError, VramError
from vram_cli.probe.wire import ORDER, REPLY, TASK, Entered, Order, Refused, Reply


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
        _serve(ORDER.validate_json(lines.get()), lines, say)
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


def _serve(order: Order, lines: queue.Queue[str], say: Callable[[Reply], None]) -> None:
    from vram_cli.config import Config
    from vram_cli.probe.serving import open_trials
    from vram_cli.workload import look_in

    config = Config.model_validate(order.config)
    if order.folder:
        look_in(Path(order.folder))
    trials = open_trials(config, download=order.download, calibrated=order.calibrated)
    say(trials.ready)
    while True:
        say(trials.run(TASK.validate_json(lines.get()), lambda phase: say(Entered(phase=phase))))


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
