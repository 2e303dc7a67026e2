"""Atomic file writes, checks that a file can be written before a long run starts, and reads that never block."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from vram_cli.errors import ConfigError, MachineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Errors of the disk and of limits, for which another name is no way out."""
_MAX_BYTES = 2**28
"""The largest file that is read: more than any that vram writes."""


def write_file(content: str | bytes, path: Path, *, force: bool = False) -> None:
    """Write a file atomically. Replace an existing file only if `force` is set.

    Raises:
        ConfigError: the file cannot be written, or exists.
        MachineError: the disk is full, or a limit of the system is reached.
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
    unfinished = target.with_name(f".vram-{os.getpid()}.tmp")  # short: the target's name may be as long as possible
    try:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path, *, force: bool = False) -> None:
    """Check that `write_file` can write to a path.

    Raises:
        ConfigError: it cannot.
        MachineError: the disk is full, or a limit of the system is reached.
    """
    target = resolved(path)
    try:
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise ConfigError(f"{path} is a folder", f"name a file in it, such as {path / 'run.json'}")
        if not target.parent.is_dir():
            raise ConfigError(f"{path}: the folder {path.parent} does not exist", f"create it: mkdir -p {path.parent}")
        if mode is not None and not stat.S_ISREG(mode):
            raise ConfigError(f"{path} is not a regular file", "name a file; --json prints the result to stdout")
        if (mode is not None or path.is_symlink()) and not force:
            raise ConfigError(f"{path} already exists", "choose another name, or add --force to replace it")
        # Only a write is conclusive: permission bits do not apply to root, a read-only disk or Windows.
        with tempfile.TemporaryFile(dir=target.parent) as file:
            file.write(b"vram")
    except OSError as error:
        raise _unwritable(path, error) from None


def resolved(path: Path) -> Path:
    """Return the absolute path that a path leads to.

    Raises:
        ConfigError: symbolic links lead in a circle.
        MachineError: the path is relative, and the current folder has been deleted.
    """
    if not path.is_absolute():
        current_folder()
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        raise ConfigError(f"{path}: its symbolic links lead in a circle", "name another file") from None


def current_folder() -> Path:
    """Return the current folder.

    Raises:
        MachineError: it has been deleted.
    """
    try:
        return Path.cwd()
    except OSError:
        raise MachineError("the current folder does not exist any more", "change to another one: cd ~") from None


def check_temporary_folder() -> None:
    """Check that the worker process can have files for its messages.

    Raises:
        MachineError: no folder for temporary files can be written.
    """
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"vram")
    except OSError as error:
        problem = f"no temporary file can be written: {error.strerror}"
        raise MachineError(problem, "free some space, or set TMPDIR to a folder that you can write to") from None


def read_file(path: Path) -> bytes:
    """Read a whole file; a pipe is read as far as someone has opened it to write.

    Raises:
        OSError: it cannot be read, is a device, or is larger than anything that vram reads.
    """
    # Without O_NONBLOCK, a pipe that nobody writes to blocks for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if stat.S_ISFIFO(mode):
            os.set_blocking(descriptor, True)
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "it is too large")
    return content


def _unwritable(path: Path, error: OSError) -> ConfigError | MachineError:
    message = f"{path}: cannot be written: {error.strerror}"
    if error.errno in _FULL:
        return MachineError(message, "free some space, or choose a folder on another disk")
    return ConfigError(message, "choose another name, or a folder that you can write to")
