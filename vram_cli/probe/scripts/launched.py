"""Run a command as a program of its own, to which vram attaches by `startup/sitecustomize.py`."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import psutil

from vram_cli.errors import MachineError
from vram_cli.probe.pipes import Lines
from vram_cli.probe.process_tree import kill_descendants, kill_group
from vram_cli.probe.scripts.attach import REQUEST, SOCKET
from vram_cli.probe.scripts.command import Command
from vram_cli.probe.scripts.ranks import several_processes
from vram_cli.virtual_gpu.attached import is_attached
from vram_cli.virtual_gpu.library import LIBRARIES

STARTUP = Path(__file__).with_name("startup")

_POLL_SECONDS = 0.05
_ROUNDS = 3
"""Times that all descendants are killed: some are adopted only after their parents."""
_LONGEST_PLACE = 80
"""A socket's path may have 104 characters on macOS and 108 on Linux, with the zero at its end (sys/un.h)."""


@dataclass(frozen=True)
class ProgramEnd:
    """How a program ended."""

    exit_code: int | None
    """As of `subprocess`; None if it was ended after a final message."""
    was_attached: bool
    """Whether any of its processes imported torch with vram attached."""


class Listener(Protocol):
    """Is told what the processes of a program send."""

    @property
    def is_over(self) -> bool:
        """Whether the program can be ended."""
        ...

    def receive(self, message: dict[str, Any], rank: int, ranks: int) -> None:
        """Receive a message of one of several ranks."""
        ...

    def lose(self, rank: int) -> None:
        """Note that the process of a rank has ended."""
        ...


def launch(
    command: Command,
    environment: Mapping[str, str],
    folder: str | os.PathLike[str],
    request: dict[str, Any],
    listener: Listener,
    *,
    prepare: Callable[[], object] | None = None,
) -> ProgramEnd:
    """Start the words of a command, and receive messages from the processes in it that train.

    Args:
        command: the command. Its own variables are set.
        environment: variables that are set besides those of this process.
        folder: the working folder.
        request: passed to `attach_to_process` in each process that trains.
        listener: gets the messages, and says when to end the program.
        prepare: called in the new process before the program starts, such as to discard its writes.

    Raises:
        ConfigError: several processes train that no launcher has made ranks.
        MachineError: the program cannot be started, or vram cannot be imported by the Python that trains.
    """
    with _listening_socket(folder) as (server, path), _Messages(server, listener) as messages, _Program() as program:
        variables = {SOCKET: path, REQUEST: json.dumps(request)}
        program.start(command, {**_environment(command, environment), **variables}, folder, prepare)
        while not listener.is_over:
            messages.receive(_POLL_SECONDS)
            if program.exit_code is not None:
                messages.receive(0)  # sent just before the end
                return ProgramEnd(None if listener.is_over else program.exit_code, messages.was_attached)
        return ProgramEnd(None, messages.was_attached)


def _environment(command: Command, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the program, with vram in front of PYTHONPATH and the virtual GPU, if this has it."""
    variables = {**os.environ, **environment, **command.environment}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(STARTUP), variables.get("PYTHONPATH"))))
    if is_attached():  # this process keeps it from the tools that it starts
        others = variables.get("LD_PRELOAD")
        variables["LD_PRELOAD"] = " ".join(filter(None, (*map(str, LIBRARIES), others)))
        variables["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
    return variables


@contextmanager
def _listening_socket(working_folder: str | os.PathLike[str]) -> Iterator[tuple[socket.socket, str]]:
    """Listen in a private folder, since pipes are not inherited through other programs."""
    if not hasattr(socket, "AF_UNIX"):
        raise MachineError("vram attaches to other programs only on Linux and macOS", "start the script by `python`")
    with (
        tempfile.TemporaryDirectory(prefix="vram-", dir=_place_of_socket(working_folder)) as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        path = f"{folder}/s"
        server.bind(path)
        server.listen()
        yield server, path


def _place_of_socket(working_folder: str | os.PathLike[str]) -> str:
    """Return a temporary folder with a short path, outside the working folder: an overlay hides the sockets in it."""
    below = os.path.join(os.path.realpath(working_folder), "")  # noqa: PTH118
    places = (os.path.realpath(place) for place in (tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp"))  # noqa: S108
    fitting = (
        place
        for place in places
        if len(place) < _LONGEST_PLACE and not os.path.join(place, "").startswith(below) and os.access(place, os.W_OK)  # noqa: PTH118
    )
    return next(fitting, tempfile.gettempdir())


class _Program:
    """A program and all processes that it starts, which end together."""

    def __enter__(self) -> _Program:
        self._process: subprocess.Popen[bytes] | None = None
        self._others = _descendants()
        return self

    def start(
        self,
        command: Command,
        environment: Mapping[str, str],
        folder: str | os.PathLike[str],
        prepare: Callable[[], object] | None,
    ) -> None:
        """Start it, without input; its output is that of this process."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                command.words,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - only system calls
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise MachineError(f"the command cannot be started: {command.words[0]}: {reason}") from None

    @property
    def exit_code(self) -> int | None:
        """Exit code, or None if it still runs."""
        return self._process.poll() if self._process is not None else None

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        kill_descendants(self._process.pid)
        kill_group(self._process.pid)
        self._process.wait()
        # Processes in sessions of their own, whose parents have ended: this process has adopted them.
        for _round in range(_ROUNDS):
            left = _descendants() - self._others
            for each in left:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            psutil.wait_procs(list(left), timeout=1.0)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


class _Messages:
    """Reads what the processes of a program send, and notices if several of them train without being ranks."""

    def __init__(self, server: socket.socket, listener: Listener) -> None:
        self.was_attached = False
        self._listener = listener
        self._trainers: dict[int, int] = {}
        """The process of each rank."""
        self._ranks = 1
        self._rank_of: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._server = server

    def __enter__(self) -> _Messages:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._server:
                cast("socket.socket", key.fileobj).close()
        self._selector.close()

    def receive(self, seconds: float) -> None:
        """Receive all that comes within a time."""
        while not self._listener.is_over and (ready := self._selector.select(seconds)):
            for key, _ in ready:
                if key.fileobj is self._server:
                    connection, _ = self._server.accept()
                    lines = Lines(partial(self._handle, connection))
                    self._selector.register(connection, selectors.EVENT_READ, lines)
                else:
                    self._read(key)

    def _read(self, key: selectors.SelectorKey) -> None:
        connection = cast("socket.socket", key.fileobj)
        try:
            chunk = connection.recv(1 << 16)
        except OSError:
            chunk = b""
        key.data(chunk)
        if not chunk:
            self._selector.unregister(connection)
            connection.close()
            if (rank := self._rank_of.pop(connection, None)) is not None:
                self._listener.lose(rank)

    def _handle(self, connection: socket.socket, line: bytes | None) -> None:
        if line is None or self._listener.is_over:
            return
        content = json.loads(line)
        if "refused" in content:
            raise MachineError(content["refused"], content["hint"])
        self.was_attached = True
        if "message" in content and self._is_of_training(content):
            rank = self._rank_of[connection] = self._checked_rank(content)
            self._listener.receive(content["message"], rank, self._ranks)

    def _is_of_training(self, content: dict[str, Any]) -> bool:
        """Return whether a message is not of a launcher that tells how its ranks ended."""
        return self._ranks == 1 or content["rank"] is not None

    def _checked_rank(self, content: dict[str, Any]) -> int:
        """Return the rank of the process that sent a message.

        Raises:
            ConfigError: it is not the only process that trains, and no rank of several.
        """
        self._ranks = max(content["ranks"] or 1, self._ranks)
        if self._ranks > 1 and content["rank"] is None:
            raise several_processes(f"the script starts {self._ranks} training processes by itself")
        if "multiprocessing" in content["message"]:
            raise several_processes("the script trains in a process that it starts by multiprocessing")
        rank: int = content["rank"] or 0
        if content["pid"] != self._trainers.setdefault(rank, content["pid"]):
            raise several_processes("two processes of the script train")
        return rank
