"""Calibrations in the user's config folder, one file per GPU: the only files that vram writes without being asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import ValidationError

from vram_cli.errors import ConfigError, MachineError
from vram_cli.files import read_file, replace_file
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.gpus import Gpu, all_gpus
from vram_cli.validation import first_problem

_HINT = "use a file written by `vram calibrate --export FILE`"


def config_folder() -> Path:
    """Return the folder of vram's own files, which may not exist yet.

    It is `VRAM_CONFIG_DIR` if set, otherwise `vram` in %APPDATA% on Windows and in $XDG_CONFIG_HOME elsewhere, or in
    ~/.config if that is not an absolute path (XDG Base Directory Specification 0.8).

    Raises:
        MachineError: the user has no home folder.
    """
    if folder := os.environ.get("VRAM_CONFIG_DIR"):
        return Path(folder)
    base = Path(os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".config") / "vram"
    except RuntimeError:
        raise MachineError("no home folder to save calibrations in", "set VRAM_CONFIG_DIR") from None


def calibrated_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that have a calibration file, readable or not, in the catalogue's order."""
    return tuple(gpu for gpu in all_gpus() if _exists(gpu))


def load_calibration(gpu: Gpu) -> Calibration | None:
    """Return the calibration of a GPU, or None if it has none.

    Raises:
        ConfigError: the file is invalid, or belongs to another GPU.
    """
    if not _exists(gpu):
        return None
    path = _path(gpu)
    hint = f"`vram calibrate --remove --gpu {gpu.name}` removes it"
    try:
        calibration = read_calibration(path)
    except ConfigError as error:
        raise ConfigError(error.message, hint) from None
    if calibration.gpu != gpu:
        raise ConfigError(f"{path}: belongs to another GPU, {calibration.product}", hint)
    return calibration


def save_calibration(calibration: Calibration) -> Path:
    """Write a calibration to the file that predictions read, replacing an earlier one, and return the path.

    Raises:
        ConfigError: the catalogue does not have the GPU.
        MachineError: the folder cannot be written to.
    """
    path = _path(calibration.gpu)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(to_json(calibration), path)
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written: {error.strerror}", "set VRAM_CONFIG_DIR to a folder that you may write to"
        ) from None
    return path


def remove_calibration(gpu: Gpu) -> Path:
    """Remove the calibration file of a GPU, valid or not, and return its path.

    Raises:
        MachineError: the file cannot be removed.
    """
    path = _path(gpu)
    try:
        path.unlink()
    except OSError as error:
        raise MachineError(f"{path}: cannot be removed: {error.strerror}") from None
    return path


def read_calibration(path: Path) -> Calibration:
    """Read a calibration from any file, saved or exported.

    Raises:
        ConfigError: the file cannot be read, is not a calibration, or the catalogue does not have its GPU.
    """
    try:
        calibration = Calibration.model_validate_json(read_file(path), strict=True)
        _ = calibration.gpu
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    except ValidationError as error:
        raise ConfigError(f"{path}: not a calibration of vram: {first_problem(error)}", _HINT) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", error.hint) from None
    return calibration


def to_json(calibration: Calibration) -> str:
    """Return a calibration as `read_calibration` reads it: one JSON object."""
    return calibration.model_dump_json(indent=2) + "\n"


def _path(gpu: Gpu) -> Path:
    return config_folder() / "calibrations" / f"{gpu.name}.json"


def _exists(gpu: Gpu) -> bool:
    try:
        return _path(gpu).exists()
    except (OSError, MachineError):  # no access to the folder, or no home folder: nothing can have been saved there
        return False
