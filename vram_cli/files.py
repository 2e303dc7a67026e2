"""Atomic file writes, and checks that a file can be written before a long run starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vram_cli.errors import ConfigError


def write_file(content: str | bytes, path: Path, *, force: bool = False) -> None:
    """Write a file atomically. Replace an existing file only if `force` is set.

    Raises:
        ConfigError: the file cannot be written, or exists.
    """
    check_writable(path, force=force)
    try:
        replace_file(content, path)
    except OSError as error:
        raise _unwritable(path, error) from None


def replace_file(content: str | bytes, path: Path) -> None:
    """Write to a temporary file in the same folder, then rename it. A symbolic link stays a link.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path, *, force: bool = False) -> None:
    """Check that `write_file` can write to a path.

    Raises:
        ConfigError: it cannot.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", f"name a file in it, such as {path / 'run.json'}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist", f"create it: mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file", "name a file; --json prints the result to stdout")
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", "choose another name, or add --force to replace it")
    try:
        # Only a write is conclusive: permission bits do not apply to root, a read-only disk or Windows.
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {error.strerror}", "choose a folder that you can write to")
