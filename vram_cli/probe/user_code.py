"""Detects whether the user's code ended a worker process."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.errors import WorkloadError
from vram_cli.probe import last_words
from vram_cli.probe.worker_process import WorkerProcess


def code_folder(config: Config) -> str:
    """Return the folder that is searched first for code that the config names; "" if it names none."""
    return str(config.source.folder.absolute()) if config.user_code else ""


def ended_by_user_code(worker: WorkerProcess, config: Config) -> WorkloadError | None:
    """Return the error for a worker that the user's code ended; None if the cause is another.

    Only the user's code exits the process; vram's own never does. After a crash the Python code that was running
    decides, because PyTorch can crash too.
    """
    if not config.user_code or not (worker.exited or worker.crashed_in(code_folder(config))):
        return None
    return WorkloadError(
        f"{', '.join(config.user_code)}: the process that runs this code {worker.ending()}",
        "run the code on its own to see why; it must raise an exception instead of exiting",
        "\n".join(last_words.tail(worker.stderr())),
    )
