"""A worker process a rank: one request to all of them, which wait for each other. Imports no torch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vram_cli.errors import VramError
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Phase

GRACE_SECONDS = 1.0
"""Time after the first failure in which other ranks may report theirs. After that they are taken to wait for it."""
_POLL_SECONDS = 0.05

Call = Callable[[WorkerProcess, int, Callable[[Any], None]], Any]
"""Asks one worker: takes it, its rank, and a function that receives events; returns the reply."""


@dataclass(eq=False)
class RankReply:
    """What became of a request in one rank."""

    rank: int
    content: Any = None
    """The reply, or the exception in place of one: `WorkerStopped`, or `VramError` if the worker refused."""
    phase: Phase | None = None
    """The phase that started last."""
    is_ended_by_group: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether there is no reply."""
        return isinstance(self.content, Exception)

    @property
    def has_waited(self) -> bool:
        """Whether the rank was ended because it still waited after another one had failed."""
        return self.is_ended_by_group and isinstance(self.content, WorkerStopped)


class WorkerGroup:
    """The workers of all ranks, by rank.

    No rank learns that another one fails: it waits for it in a collective, for ever with NCCL. So the group decides
    from outside, and ends those that wait.
    """

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self.workers = tuple(workers)

    def ask(self, call: Call, has_failed: Callable[[Any], bool] = lambda _: False) -> list[RankReply]:
        """Ask all workers at the same time, and return what became of it, in the order in which they replied.

        Args:
            call: asks one worker.
            has_failed: whether a reply is that of a rank for which others may wait in vain.
        """
        replies = [RankReply(rank) for rank in range(len(self.workers))]
        done: queue.SimpleQueue[RankReply] = queue.SimpleQueue()
        for reply in replies:
            threading.Thread(target=self._ask_one, args=(call, reply, done), daemon=True).start()
        ended: list[RankReply] = []
        end_of_grace: float | None = None
        while len(ended) < len(replies):
            if end_of_grace is not None and time.monotonic() > end_of_grace:
                self._end_those_that_wait(replies)
            try:
                reply = done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            ended.append(reply)
            if end_of_grace is None and (reply.is_refused or has_failed(reply.content)):
                end_of_grace = time.monotonic() + GRACE_SECONDS
        _raise_bugs(ended)
        return ended

    def kill(self) -> None:
        """Kill all workers, and return at once."""
        for worker in self.workers:
            worker.kill()

    def end(self) -> None:
        """Kill all workers and free their resources."""
        self.kill()  # first all, so that none waits for another
        for worker in self.workers:
            worker.end()

    def _ask_one(self, call: Call, reply: RankReply, done: queue.SimpleQueue[RankReply]) -> None:
        def on_event(event: Any) -> None:
            reply.phase = getattr(event, "phase", reply.phase)

        try:
            reply.content = call(self.workers[reply.rank], reply.rank, on_event)
        except Exception as error:  # noqa: BLE001 - raised in the thread that asked, if it is a bug
            reply.content = error
        done.put(reply)

    def _end_those_that_wait(self, replies: Sequence[RankReply]) -> None:
        for reply in replies:
            if reply.content is None and not reply.is_ended_by_group:
                reply.is_ended_by_group = True
                self.workers[reply.rank].kill()


def _raise_bugs(replies: Sequence[RankReply]) -> None:
    for reply in replies:
        if isinstance(reply.content, Exception) and not isinstance(reply.content, (WorkerStopped, VramError)):
            raise reply.content
