"""Keep the effects of a script within its trial, as far as the system allows, and list the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from vram_cli.errors import ConfigError, MachineError
from vram_cli.probe.scripts import overlay
from vram_cli.probe.scripts.side_effects import QUIET, keep_from_writing
from vram_cli.probe.scripts.writes import Writes


def uses_overlay(isolation: str) -> bool:
    """Return whether trials have an overlay over the working folder.

    Args:
        isolation: `script.isolation` of the config.

    Raises:
        MachineError: it demands an overlay, and the system has none.
    """
    reason = "" if isolation == "none" else overlay_obstacle()
    if isolation == "overlay" and reason:
        raise MachineError(
            f"script.isolation: overlay is not possible here: {reason}",
            "set script.isolation=none to let the script write into its folder; the answer lists what it writes",
        )
    return isolation != "none" and not reason


@cache
def overlay_obstacle() -> str:
    """Return why the working folder cannot have an overlay; "" if it can."""
    return overlay.obstacle(Path.cwd())


class Isolation:
    """What a process and its forks have in common: loggers are off, and models are not saved.

    It comes before imports, since packages read variables and bind functions as they are imported. Nothing undoes it.

    Args:
        has_overlay: whether trials have an overlay over the working folder.
    """

    def __init__(self, *, has_overlay: bool) -> None:
        os.environ.update(QUIET)
        self.has_overlay = has_overlay
        self._writes: Writes | None = None
        keep_from_writing(self._note, Path.cwd() if has_overlay else None)

    def start(self, *, made: Iterable[str] = (), enters: bool = False) -> Effects:
        """Isolate this process, which a trial has for itself, and list what it does.

        Args:
            made: paths that earlier trials have made.
            enters: whether to enter an overlay, for which the process must have one thread.
        """
        folder = Path.cwd()
        above = overlay.enter(folder) if enters else None
        effects = Effects(folder, above, is_discarded=self.has_overlay, made=made)
        self._writes = effects.writes
        return effects

    def _note(self, line: str) -> None:
        if self._writes is not None:
            self._writes.add(line)


class Effects:
    """The effects of a trial.

    Attributes:
        on_loss: called with a line before the user would lose a file.
    """

    def __init__(self, folder: Path, above: overlay.Overlay | None, *, is_discarded: bool, made: Iterable[str]) -> None:
        self.on_loss: Callable[[str], None] = lambda _: None
        self._above = above
        self.writes = Writes(folder, is_discarded=is_discarded, made=made, on_loss=self._loses)

    def lines(self) -> tuple[str, ...]:
        """Return a line about each effect so far."""
        discarded = self._above.changes() if self._above else ()
        return (*self.writes.lines(), *(f"{line} (discarded)" for line in discarded))

    def discarded_bytes(self) -> int:
        """Return the bytes of files in RAM that the end of the trial discards."""
        return self._above.size() if self._above else 0

    def _loses(self, line: str) -> None:
        self.on_loss(line)


def loss(name: str, line: str) -> ConfigError:
    """Return the error for a script that would cost the user a file.

    Args:
        name: the command.
        line: what it does, such as "removes out/checkpoint-500".
    """
    return ConfigError(
        f"{name}: it {line}, a file that was there before; nothing can hold that back: {overlay_obstacle()}",
        "run vram in a copy of the folder, or let the script do it with --set script.isolation=none",
    )
