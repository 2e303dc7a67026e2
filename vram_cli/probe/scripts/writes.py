"""List what a script does outside its own memory: files that it writes, programs that it starts, hosts that it calls.

Python's audit events tell of them before they happen. They cannot be undone, and code in C++ or in other processes
raises none.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

MOST_LINES = 50

_WRITING = os.O_WRONLY | os.O_RDWR
_SYSTEM = ("/dev/", "/proc/", "/sys/")
_FILE_EVENTS = {
    # event -> position of the path, and of the descriptor of a folder to which it is relative
    "os.mkdir": (0, 2),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "shutil.rmtree": (0, 1),
    "os.truncate": (0, 9),
    "os.symlink": (1, 2),
    "os.link": (1, 3),
    "os.rename": (1, 3),
}
_STARTING = ("subprocess.Popen", "os.posix_spawn", "os.exec")
_EVENTS = {*_FILE_EVENTS, *_STARTING, "os.system", "socket.getaddrinfo", "socket.connect"}
_REMOVING = ("os.remove", "os.rmdir", "shutil.rmtree")


class Writes:
    """Lists what this process does from now on. The hook stays until the process ends.

    Left out are folders for temporary files, devices, and the caches of Python.

    Args:
        folder: the working folder; paths in it are listed relative to it.
        is_discarded: whether what is written into the folder is discarded, so that it is not listed here.
    """

    def __init__(self, folder: str | os.PathLike[str], *, is_discarded: bool = False) -> None:
        self._folder = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
        self._home = os.path.join(Path.home(), "")  # noqa: PTH118
        self._left_out = (*_SYSTEM, *(os.path.join(each, "") for each in _temporary_folders()))  # noqa: PTH118
        self._is_discarded = is_discarded
        self._seen: set[str] = set()
        self._lines: dict[str, None] = {}
        self._hosts: dict[Any, str] = {}
        sys.addaudithook(self._on_event)

    def lines(self) -> tuple[str, ...]:
        """Return the first lines, and the number of the others."""
        lines = tuple(self._lines)
        others = len(lines) - MOST_LINES
        return lines if others <= 0 else (*lines[:MOST_LINES], f"and {others:,} more")

    def add(self, line: str) -> None:
        """Add a line, once."""
        self._lines[line] = None

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Handle an audit event. Python raises many, so those that are not of interest end here at once."""
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & _WRITING:
                return
        elif event not in _EVENTS:
            return
        with contextlib.suppress(OSError, ValueError):  # it would be an exception in the script
            self._on_effect(event, args)

    def _on_effect(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._on_file(event, args[0])
        elif event in _FILE_EVENTS:
            path, descriptor = _FILE_EVENTS[event]
            if len(args) <= descriptor or args[descriptor] in (-1, None):  # else a part of rmtree
                self._on_file(event, args[path])
                if event == "os.rename":
                    self._on_file("os.remove", args[0])
        elif event in _STARTING:
            self.add(f"started {_shell_line(args[1])}")
        elif event == "os.system":
            self.add(f"started {_shell_line(args[0])}")
        elif event == "socket.getaddrinfo":
            self._hosts[args[1]] = _text(args[0])
        elif event == "socket.connect":
            self._on_connection(args[1])

    def _on_file(self, event: str, name: Any) -> None:
        if not isinstance(name, (str, bytes, os.PathLike)):
            return  # a descriptor
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - a link itself may be removed
        key = path if event not in _REMOVING else f"{path}\0"
        if key in self._seen or "__pycache__" in path:
            return
        self._seen.add(key)
        exists = os.path.lexists(path)
        if exists if event == "os.mkdir" else not exists and event in _REMOVING:
            return  # it fails, or has nothing to do
        if line := self._name(path):
            self.add(f"{'removed' if event in _REMOVING else 'changed' if exists else 'made'} {line}")

    def _name(self, path: str) -> str:
        """Return a path as it is listed; "" if it is left out."""
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
        if real.startswith(self._folder):
            return "" if self._is_discarded else real[len(self._folder) :]
        if real.startswith(self._left_out):
            return ""
        return f"~/{real[len(self._home) :]}" if real.startswith(self._home) else real

    def _on_connection(self, address: Any) -> None:
        """Handle a connection, unless it stays on this machine."""
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost", "0.0.0.0")):  # noqa: S104 - compared
            self.add(f"connected to {self._hosts.get(address[1]) or address[0]}:{address[1]}")


def _temporary_folders() -> set[str]:
    return {os.path.realpath(each) for each in (tempfile.gettempdir(), "/tmp", "/var/tmp")}  # noqa: S108


def _shell_line(command: Any) -> str:
    words = [command] if isinstance(command, (str, bytes, os.PathLike)) else command or []
    texts = [_text(word) for word in words]
    line = texts[0] if len(texts) == 1 else shlex.join(texts)
    return line if len(line) <= 80 else f"{line[:79]}…"


def _text(word: Any) -> str:
    return os.fsdecode(word) if isinstance(word, (str, bytes, os.PathLike)) else str(word)
