"""Calibrations in the user's config folder, a file a card; the only thing that vram keeps without being told where."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import ValidationError

from vram_cli.errors import ConfigError, MachineError
from vram_cli.files import replace_file
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.gpus import Gpu, all_gpus
from vram_cli.validation import first_problem

_MOST_BYTES = 256 * 1024  # a calibration has about 3 KiB
_HINT = "take a file that `vram calibrate --export FILE` wrote"


def config_folder() -> Path:
    """Return the folder of vram's own files, which may not be there yet.

    `VRAM_CONFIG_DIR` names it; else it is `vram` in %APPDATA% on Windows, elsewhere in $XDG_CONFIG_HOME, which is
    ~/.config where it is not an absolute path (XDG Base Directory Specification 0.8).

    Raises:
        MachineError: this user has no home.
    """
    if own := os.environ.get("VRAM_CONFIG_DIR"):
        return Path(own)
    base = Path(os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".config") / "vram"
    except RuntimeError:
        raise MachineError("there is no home folder to keep calibrations in", "set VRAM_CONFIG_DIR") from None


def kept_cards() -> tuple[Gpu, ...]:
    """Return the cards that a calibration is kept of, whether or not it can be read, in the catalogue's order."""
    return tuple(gpu for gpu in all_gpus() if _is_there(gpu))


def kept(gpu: Gpu) -> Calibration | None:
    """Return what is kept of a card, None where nothing is.

    Raises:
        ConfigError: the file is broken, or of another card.
    """
    if not _is_there(gpu):
        return None
    path = _file(gpu)
    forget = f"`vram calibrate --remove --gpu {gpu.name}` removes it"
    try:
        calibration = read(path)
    except ConfigError as error:
        raise ConfigError(error.message, forget) from None
    if calibration.gpu != gpu:
        raise ConfigError(f"{path}: is of another card, {calibration.card}", forget)
    return calibration


def keep(calibration: Calibration) -> Path:
    """Write a calibration where predictions find it, in place of the one that was there, and return its file.

    Raises:
        ConfigError: the catalogue does not have the card.
        MachineError: the folder cannot be written.
    """
    path = _file(calibration.gpu)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(to_text(calibration), path)
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written: {error.strerror}", "set VRAM_CONFIG_DIR to a folder that you may write to"
        ) from None
    return path


def forget(gpu: Gpu) -> Path:
    """Remove what is kept of a card, broken or not, and return the file that it was.

    Raises:
        MachineError: it cannot be removed.
    """
    path = _file(gpu)
    try:
        path.unlink()
    except OSError as error:
        raise MachineError(f"{path}: cannot be removed: {error.strerror}") from None
    return path


def read(path: Path) -> Calibration:
    """Read a calibration, as it is kept or as it was exported.

    Raises:
        ConfigError: the file cannot be read, is no calibration, or is of a card that the catalogue does not have.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: larger than any calibration", _HINT)
    try:
        calibration = Calibration.model_validate_json(content, strict=True)
        _ = calibration.gpu
    except ValidationError as error:
        raise ConfigError(f"{path}: not a calibration of vram: {first_problem(error)}", _HINT) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.hint) from None
    return calibration


def to_text(calibration: Calibration) -> str:
    """Return a calibration as `read` takes it: one JSON object."""
    return calibration.model_dump_json(indent=2) + "\n"


def _file(gpu: Gpu) -> Path:
    return config_folder() / "calibrations" / f"{gpu.name}.json"


def _is_there(gpu: Gpu) -> bool:
    try:
        return _file(gpu).exists()
    except (OSError, MachineError):  # a folder that may not be entered, or no home: nothing was ever kept there
        return False
