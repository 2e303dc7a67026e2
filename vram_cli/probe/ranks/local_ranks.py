"""Ranks that are all processes of this machine, and meet in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from vram_cli.probe.devices.host_memory import default_capacity
from vram_cli.probe.messages import RankPlace
from vram_cli.probe.worker_process import WorkerProcess

StartWorker = Callable[[Mapping[str, str]], WorkerProcess]


class Ranks(Protocol):
    """The processes that can be ranks: those of this machine, or those that a launcher has started."""

    @property
    def count(self) -> int:
        """Number of ranks."""
        ...

    def start(self, environment: Mapping[str, str]) -> list[WorkerProcess]:
        """Start a worker a rank, with variables that are added to the environment."""
        ...

    def places(self) -> list[RankPlace]:
        """Return the places of all ranks in a new process group."""
        ...

    def close(self) -> None:
        """Free what they need to meet."""
        ...


class LocalRanks:
    """Ranks of this machine.

    Args:
        count: how many there are.
        start_worker: starts one, with variables that are added to the environment.
    """

    def __init__(self, count: int, start_worker: StartWorker = WorkerProcess) -> None:
        self.count, self._start_worker = count, start_worker
        self._folder: AbstractContextManager[str] = tempfile.TemporaryDirectory(prefix="vram-ranks-")
        self._path = self._folder.__enter__()
        self._groups = 0
        self._cpu_capacity = default_capacity() // count

    def start(self, environment: Mapping[str, str]) -> list[WorkerProcess]:
        """Start a worker a rank."""
        workers: list[WorkerProcess] = []
        try:
            workers.extend(self._start_worker(environment) for _ in range(self.count))
        except BaseException:
            for worker in workers:
                worker.end()
            raise
        return workers

    def places(self) -> list[RankPlace]:
        """Return their places; each group meets in a file of its own."""
        self._groups += 1
        store = f"file:{self._path}/{self._groups}"
        count = self.count
        return [
            RankPlace(rank=rank, ranks=count, local_rank=rank, cpu_capacity=self._cpu_capacity, store=store)
            for rank in range(count)
        ]

    def close(self) -> None:
        """Remove the files."""
        self._folder.__exit__(None, None, None)
