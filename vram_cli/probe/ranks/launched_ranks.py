"""Ranks that torchrun has started, on this machine or several: rank 0 asks the questions, the others start workers."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vram_cli.errors import MachineError
from vram_cli.probe.devices.host_memory import default_capacity
from vram_cli.probe.messages import RankPlace
from vram_cli.probe.ranks.launch import Launch
from vram_cli.probe.ranks.remote_worker import Connection, RemoteWorker, serve_worker
from vram_cli.probe.worker_process import WorkerProcess

_HELLO = b"h"
_KEY = "address"
_WAIT_SECONDS = 60.0
_CURRENT: list[LaunchedRanks] = []


class LaunchedRanks:
    """The ranks of a launch as rank 0 uses them; see `Ranks`.

    Args:
        launch: the launch.
        server: the socket to which each other rank connects, anew for each worker.
        token: proves that a connection is one of them.
    """

    def __init__(self, launch: Launch, server: socket.socket, token: str) -> None:
        self._launch, self._server, self._token = launch, server, token
        self._hellos = {0: _hello(launch)}
        """Of each rank, when it connected first."""
        self._groups = 0

    @property
    def count(self) -> int:
        """Number of ranks."""
        return self._launch.ranks

    def start(self, environment: Mapping[str, str]) -> list[WorkerProcess]:
        """Start a worker a rank, as soon as all ranks have connected.

        Raises:
            MachineError: a rank does not connect.
        """
        connections = self._accept_all()
        others = [RemoteWorker(environment, connections[rank]) for rank in range(1, self.count)]
        return [WorkerProcess(environment), *others]

    def places(self) -> list[RankPlace]:
        """Return the places of all ranks; each group meets under a prefix of its own."""
        self._groups += 1
        launch = self._launch
        store = f"tcp:{launch.host}:{launch.port}/{launch.prefix}/{self._groups}"
        return [RankPlace(ranks=self.count, store=store, **hello) for _, hello in sorted(self._hellos.items())]

    def close(self) -> None:
        """Keep the other ranks for the next probe of this command."""

    def _accept_all(self) -> dict[int, Connection]:
        connections: dict[int, Connection] = {}
        end = time.monotonic() + _WAIT_SECONDS
        while len(connections) < self.count - 1:
            self._server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                accepted, _ = self._server.accept()
            except TimeoutError:
                missing = sorted({*range(1, self.count)} - connections.keys())
                message = f"rank {missing[0]} of the launch has not connected within {_WAIT_SECONDS:.0f} s"
                raise MachineError(message, "see the output of torchrun on its machine") from None
            accepted.settimeout(None)
            connection = Connection(accepted)
            kind, content = connection.receive()
            hello = json.loads(content) if kind == _HELLO else {}
            if not secrets.compare_digest(hello.pop("token", ""), self._token):
                connection.close()
                continue
            connections[hello["rank"]] = connection
            self._hellos.setdefault(hello["rank"], hello)
        return connections


def _hello(launch: Launch) -> dict[str, Any]:
    """Return the fields of `RankPlace` that a rank knows itself."""
    capacity = default_capacity() // launch.local_ranks
    return {"rank": launch.rank, "local_rank": launch.local_rank, "cpu_capacity": capacity}


def current_ranks() -> LaunchedRanks | None:
    """Return the ranks that serve this process; None if torchrun has not started it."""
    return _CURRENT[-1] if _CURRENT else None


@contextmanager
def rank_zero(launch: Launch) -> Iterator[None]:
    """Let the other ranks of a launch serve this one, until the context is left."""
    store = launch.open_store()
    token = secrets.token_hex(16)
    with socket.create_server(("", 0), backlog=launch.ranks) as server:
        store.set(_KEY, json.dumps({"port": server.getsockname()[1], "token": token}))
        _CURRENT.append(LaunchedRanks(launch, server, token))
        try:
            yield
        finally:
            _CURRENT.clear()


def serve_rank_zero(launch: Launch) -> None:
    """Start workers for rank 0 in this process, which is another rank, as long as that runs."""
    address: dict[str, Any] = json.loads(launch.open_store().get(_KEY))
    hello = {"token": address["token"], **_hello(launch)}
    with contextlib.suppress(OSError):  # rank 0 has its answer, and has ended
        while True:
            with socket.create_connection((launch.host, address["port"])) as connected:
                connection = Connection(connected)
                connection.send(_HELLO, json.dumps(hello).encode())
                if not serve_worker(connection):
                    return
