"""Attach to the training in a process that another program has started; `startup/sitecustomize.py` calls this."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import sys
from importlib import import_module
from typing import Any

SOCKET, REQUEST = "VRAM_SOCKET", "VRAM_REQUEST"
"""Variables: the path of the worker's socket, and the request as JSON."""


class Sender:
    """Sends messages to the worker that started the program, one line of JSON each, with the facts of this process.

    A fork sends them over its own connection, and helpers such as those of a DataLoader send none.
    """

    def __init__(self, path: str) -> None:
        self._path, self._pid = path, 0
        self._socket: socket.socket | None = None

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message; it has arrived even if the process ends at once."""
        self._send({"message": message, "rank": _number("RANK"), "ranks": _number("WORLD_SIZE")})

    def wait_for_others(self) -> None:
        """Wait until the worker ends the trial, if other ranks may still need this process."""
        if (_number("WORLD_SIZE") or 1) > 1 and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.recv(1)

    def attached(self) -> None:
        """Tell that vram is attached to this process, which may be a launcher or train."""
        self._send({"attached": True})

    def _send(self, line: dict[str, Any]) -> None:
        if multiprocessing.current_process().daemon:
            return
        if self._pid != os.getpid():
            self._pid, self._socket = os.getpid(), self._connect()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the worker has ended the trial, and will end this process
                self._socket.sendall(json.dumps({"pid": self._pid, **line}).encode() + b"\n")

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return None
        return connection


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else None


def attach() -> None:
    """Attach to this process, in which torch has just been imported.

    Nothing may be measured or limited yet: it may be a launcher, whose children would inherit the limit.
    """
    send = Sender(os.environ[SOCKET])
    if _is_multiprocessing_child():
        _tell_of_steps(send)
        return
    send.attached()
    trial = import_module("vram_cli.probe.scripts.attached_trial")
    trial.attach_to_process(json.loads(os.environ[REQUEST]), send)


def _is_multiprocessing_child() -> bool:
    """Return whether multiprocessing started this process anew; it says so only in the command."""
    return any(word.startswith("from multiprocessing.") for word in sys.orig_argv)


def _tell_of_steps(send: Sender) -> None:
    """Tell the worker if an optimizer steps here; most such processes only load data."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(lambda *_: send({"multiprocessing": True}))
