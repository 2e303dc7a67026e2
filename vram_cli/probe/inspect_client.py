"""The parent's side of a look at data and model, in a child process of its own. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vram_cli.config import Config
from vram_cli.errors import MachineError, ProbeError
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.messages import REQUEST, InspectWorkload, Refused, WorkloadInspected
from vram_cli.probe.worker_errors import HOST_FLOOR, START_TIMEOUT, ended_by_code, error_of, folder_of
from vram_cli.probe.worker_process import WorkerProcess


def look_in_child(config: Config, *, download: bool = False, samples: int = 0) -> WorkloadInspected:
    """Return what a child process says of the data and the model, with so many images of each class.

    Raises:
        ConfigError: the data cannot be had, or the model cannot be built.
        WorkloadError: code of the config's raises, or ends its process, while the data is opened or the model built.
        MachineError: the computer runs out of RAM.
    """
    request = InspectWorkload(
        config=config.model_dump(mode="json"), download=download, folder=folder_of(config), samples=samples
    )
    child = WorkerProcess({})
    try:
        child.send(REQUEST.dump_json(request))
        return _answer(child, config.user_code)
    finally:
        child.end()


def _answer(child: WorkerProcess, own_code: Sequence[str]) -> WorkloadInspected:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        reply = child.receive()
        if isinstance(reply, WorkloadInspected):
            return reply
        if isinstance(reply, Refused):
            raise error_of(reply)
        if child.gone and own_code and not child.was_killed:
            raise ended_by_code(child, own_code)
        if child.gone:
            raise ProbeError(f"the process that looks at data and model {child.how_it_ended()}", child.last_words)
        if available_bytes() < HOST_FLOOR:
            raise MachineError(
                "the computer was about to run out of RAM", "look at a smaller model, or end other programs"
            )
    raise ProbeError(f"the process that looks at data and model did not answer within {START_TIMEOUT:.0f} s")
