"""Detects whether the user's code ended a worker process."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.errors import WorkloadError
from vram_cli.probe import last_words
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome


def code_folder(config: Config) -> str:
    """Return the folder that is searched first for code that the config names; "" if it names none."""
    return str(config.source.folder.absolute()) if config.user_code and config.script is None else ""


def ended_by_user_code(stop: WorkerStopped, worker: WorkerProcess, config: Config) -> WorkloadError | None:
    """Return the error for a worker that the user's code ended; None if the cause is another.

    Only the user's code exits the process, or writes into pipes that it did not open; vram's own never does. After a
    crash the Python code that was running decides, because PyTorch can crash too.
    """
    if not config.user_code or config.script is not None:  # a script has processes of its own
        return None
    code = ", ".join(config.user_code)
    if stop.outcome is Outcome.ERROR:
        return WorkloadError(
            f"{code}: the process that runs this code {stop.message}",
            "the code must not write to, or close, file descriptors that it did not open",
        )
    if stop.outcome is Outcome.KILLED and (worker.exited or worker.crashed_in(code_folder(config))):
        return WorkloadError(
            f"{code}: the process that runs this code {worker.ending()}",
            "run the code on its own to see why; it must raise an exception instead of exiting",
            "\n".join(last_words.tail(worker.stderr())),
        )
    return None
