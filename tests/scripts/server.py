"""A process that has imported what trials of scripts need, and runs functions in forks of itself.

`ScriptTrials` imports packages, patches PyTorch and sets variables of its process, so each test needs a process of its
own. A fork of this one has its imports already. The processes of xdist share one for each device.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
_SECONDS = 120

T = TypeVar("T")


def start(path: Path, environment: Mapping[str, str], owner: int) -> None:
    """Start a server that listens at a path, and ends as the process `owner` does."""
    command = [sys.executable, "-m", "tests.scripts.server", str(path), str(owner)]
    with path.with_suffix(".log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    late = time.monotonic() + _SECONDS
    while not path.exists():
        assert time.monotonic() < late, path.with_suffix(".log").read_text()
        time.sleep(0.05)
    server.wait()  # for the process that forked it; the server ends by itself, after its owner


def call(path: Path, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function of a module returns in a fork of the server at a path."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        connection.sendall(pickle.dumps((function, arguments)))
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            is_returned, value = pickle.load(answer)
    assert is_returned, value
    returned: T = value
    return returned


def main(path: str, owner: str) -> None:
    if os.fork():  # no descendant of this test process, whose tests may end all that a program of theirs has started
        os._exit(0)
    from tests.scripts import runs

    runs.prepare()
    owner_ends = os.pidfd_open(int(owner))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen()
        Path(f"{path}.new").rename(path)
        while owner_ends not in select.select([listener, owner_ends], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()
            _reap()


def _answer(connection: socket.socket) -> None:
    signal.alarm(_SECONDS)
    with connection, connection.makefile("rwb") as stream:
        function, arguments = pickle.load(stream)
        try:
            answer = True, function(*arguments)
        except BaseException:  # noqa: BLE001 - the test shows it
            answer = False, traceback.format_exc()
        pickle.dump(answer, stream)
    os._exit(0)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
