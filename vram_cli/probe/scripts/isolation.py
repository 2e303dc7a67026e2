"""Keep the effects of a script within its trial, as far as the system allows, and list the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from vram_cli.errors import MachineError
from vram_cli.probe.scripts import overlay
from vram_cli.probe.scripts.side_effects import QUIET, keep_from_writing
from vram_cli.probe.scripts.writes import Writes

Lines = Callable[[], tuple[str, ...]]
"""Returns a line about each effect of a script so far."""


def uses_overlay(isolation: str) -> bool:
    """Return whether trials have an overlay over the working folder.

    Args:
        isolation: `script.isolation` of the config.

    Raises:
        MachineError: it demands an overlay, and the system has none.
    """
    reason = "" if isolation == "none" else _obstacle()
    if isolation == "overlay" and reason:
        raise MachineError(
            f"script.isolation: overlay is not possible here: {reason}",
            "set script.isolation=none to let the script write into its folder; the answer lists what it writes",
        )
    return isolation != "none" and not reason


@cache
def _obstacle() -> str:
    return overlay.obstacle(Path.cwd())


def isolate(*, with_overlay: bool) -> Lines:
    """Isolate this process, which a trial has for itself. It must have one thread if it gets an overlay."""
    folder = Path.cwd()
    above = overlay.enter(folder) if with_overlay else None
    lines = observe(is_discarded=with_overlay)
    if above is None:
        return lines
    return lambda: (*lines(), *(f"{line} (discarded)" for line in above.changes()))


def observe(*, is_discarded: bool) -> Lines:
    """Turn loggers off, keep models from being saved, and list what else this process does.

    Args:
        is_discarded: whether the process has an overlay over its working folder.
    """
    folder = Path.cwd()
    os.environ.update(QUIET)
    writes = Writes(folder, is_discarded=is_discarded)
    keep_from_writing(writes.add, folder if is_discarded else None)
    return writes.lines
