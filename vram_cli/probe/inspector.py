"""The parent's side of a look at data and model, in a child process of its own. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vram_cli.config import Config
from vram_cli.errors import MachineError, ProbeError
from vram_cli.probe.child import Child
from vram_cli.probe.host import available_bytes
from vram_cli.probe.parent import HOST_FLOOR, START_TIMEOUT, ended_by_code, error_of, folder_of, is_codes_doing
from vram_cli.probe.wire import REQUEST, Look, Looked, Refused


def look_in_child(config: Config, *, download: bool = False, samples: int = 0) -> Looked:
    """Return what a child process says of the data and the model, with so many images of each class.

    Raises:
        ConfigError: the data cannot be had, or the model cannot be built.
        WorkloadError: code of the config's raises, or ends its process, while the data is opened or the model built.
        MachineError: the computer runs out of RAM.
    """
    request = Look(config=config.model_dump(mode="json"), download=download, folder=folder_of(config), samples=samples)
    child = Child({})
    try:
        child.send(REQUEST.dump_json(request))
        return _answer(child, config.own_code, request.folder)
    finally:
        child.end()


def _answer(child: Child, own_code: Sequence[str], folder: str) -> Looked:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        reply = child.receive()
        if isinstance(reply, Looked):
            return reply
        if isinstance(reply, Refused):
            raise error_of(reply)
        if child.gone and is_codes_doing(child, own_code, folder):
            raise ended_by_code(child, own_code)
        if child.gone:
            raise ProbeError(f"the process that looks at data and model {child.how_it_ended()}", child.last_words)
        if available_bytes() < HOST_FLOOR:
            raise MachineError(
                "the computer was about to run out of RAM", "look at a smaller model, or end other programs"
            )
    raise ProbeError(f"the process that looks at data and model did not answer within {START_TIMEOUT:.0f} s")
