"""What all parents of child processes share: how long they wait, and what errors a child's end or refusal becomes."""

from __future__ import annotations

from collections.abc import Sequence

from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError, ProbeError, VramError, WorkloadError
from vram_cli.probe.messages import Refused
from vram_cli.probe.worker_process import WorkerProcess

HOST_FLOOR = 256 * 1024**2
"""RAM that trials must leave to the rest of the computer; below it the child is ended before the kernel ends others."""

START_TIMEOUT = 600.0
"""Seconds for importing torch, reading or downloading the data, and the warm-up."""

_ERRORS: dict[str, type[VramError]] = {
    "ConfigError": ConfigError,
    "MachineError": MachineError,
    "ProbeError": ProbeError,
}


def folder_of(config: Config) -> str:
    """Return where code that a config names is looked for first; "" where it names none."""
    return str(config.source.folder.absolute()) if config.user_code else ""


def error_of(refused: Refused) -> VramError:
    """Return the error that a child has put into words."""
    if refused.traceback:
        return WorkloadError(refused.message, refused.hint, refused.traceback)
    return _ERRORS[refused.error](refused.message, refused.hint)


def ended_by_code(child: WorkerProcess, own_code: Sequence[str]) -> WorkloadError:
    """Return the error for a child that code of the config's has ended; `own_code` names that."""
    message = f"{', '.join(own_code)}: the process that runs this code {child.how_it_ended()}"
    words = "\n".join(child.told())
    return WorkloadError(message, "run the code by itself to see why: it must raise errors, and not exit", words)
