"""The baseline of `vram check`: a saved breakdown, kept in the repository. `vram show` draws it."""

from __future__ import annotations

from pathlib import Path

from vram_cli.errors import ConfigError
from vram_cli.records import Result
from vram_cli.report.saved import check_writable, load, save

_MARK = '"schema_version"'
_HEAD = 4096


def load_baseline(path: Path) -> Result:
    """Read a baseline.

    Raises:
        ConfigError: there is none, or it is not a result of vram.
    """
    if not path.exists():
        raise ConfigError(f"--baseline {path}: there is no such file", "--update-baseline writes it; commit it then")
    return load(path)


def check_baseline(path: Path) -> None:
    """Check that a baseline can be written, and that no other kind of file would be lost by it.

    Raises:
        ConfigError: it cannot, or what is there is no baseline.
    """
    check_writable(path, force=True)
    # A look is enough: a baseline with conflict markers of git in it should be replaced, a config should not.
    if path.exists() and _MARK not in _head(path):
        raise ConfigError(f"--baseline {path} is there, and no result of vram", "name another file, or delete it first")


def save_baseline(result: Result, path: Path) -> None:
    """Write the baseline, the whole of it or nothing.

    Raises:
        ConfigError: the place cannot be written.
    """
    save(result, path, force=True)


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "choose another name") from None
