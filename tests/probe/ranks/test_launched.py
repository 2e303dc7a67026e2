"""Ranks that torchrun has started: workers at the other end of a connection, and what the launcher says."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from vram_cli.errors import MachineError
from vram_cli.probe.messages import TorchImported
from vram_cli.probe.ranks import launched_ranks
from vram_cli.probe.ranks.launch import Launch, launch_of
from vram_cli.probe.ranks.launched_ranks import current_ranks, rank_zero, serve_rank_zero
from vram_cli.probe.ranks.remote_worker import Connection, RemoteWorker, serve_worker
from vram_cli.probe.worker_process import WorkerStopped
from vram_cli.records import Outcome

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have fewer signals")

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[3])}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-0",
    "MASTER_PORT": "29500",
}


def workers_of_this_process() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def remote() -> Iterator[RemoteWorker]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve_worker, args=(Connection(theirs),))
    server.start()
    worker = RemoteWorker(ENVIRONMENT, Connection(ours), entry="tests.probe.obeying_worker")
    yield worker
    worker.end()
    server.join(10)
    assert not server.is_alive()
    assert not workers_of_this_process()


def test_a_remote_worker_answers_and_says_how_it_ends(remote: RemoteWorker) -> None:
    big = "x" * 300_000
    assert isinstance(
        remote.request(f"import sys; sys.stderr.write('{big}end'); sys.stderr.flush()", timeout=20), TorchImported
    )
    with pytest.raises(WorkerStopped) as stopped:
        remote.request("import os; os._exit(7)", timeout=20)
    assert (stopped.value.outcome, stopped.value.message) == (Outcome.KILLED, "ended with exit code 7")
    assert remote.exited
    assert remote.stderr().endswith("xend")


def test_a_remote_worker_is_killed_with_all_that_it_started(remote: RemoteWorker) -> None:
    remote.request("import subprocess; subprocess.Popen(['sleep', '600'])", timeout=20)
    remote.kill()
    with pytest.raises(WorkerStopped, match="was ended by SIGKILL"):
        remote.request("pass", timeout=20)
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "sleep"]


def test_a_remote_worker_that_dies_is_noticed(remote: RemoteWorker) -> None:
    (process,) = workers_of_this_process()
    os.kill(process.pid, signal.SIGSEGV)
    with pytest.raises(WorkerStopped, match="was ended by SIGSEGV"):
        remote.request("import time; time.sleep(60)", timeout=20)
    assert remote.signal_from_outside == ""


def test_a_lost_connection_ends_the_worker_and_the_wait_for_it() -> None:
    ours, theirs = socket.socketpair()
    end, other_end = Connection(ours), Connection(theirs)
    server = threading.Thread(target=serve_worker, args=(other_end,))
    server.start()
    worker = RemoteWorker(ENVIRONMENT, end, entry="tests.probe.obeying_worker")
    worker.request("pass", timeout=20)
    end.close()
    server.join(10)
    assert not workers_of_this_process()
    with pytest.raises(WorkerStopped, match="SIGKILL"):
        worker.request("pass", timeout=20)
    worker.end()


def test_what_torchrun_tells_a_process() -> None:
    launch = launch_of(TORCHRUN)
    assert launch == Launch(5, 8, 1, 4, "node-0", 29500, "vram/2", has_store=True)
    assert launch_of({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"}) == launch._replace(has_store=False)
    assert launch_of({**TORCHRUN, "WORLD_SIZE": "1"}) is None
    assert launch_of({"RANK": "0", "WORLD_SIZE": "8"}) is None, "other launchers do not start vram a rank"


class Meeting(Launch):
    """A launch on this machine whose store is a dictionary."""

    values: ClassVar[dict[str, bytes]] = {}

    def open_store(self) -> Any:
        """Return the store."""
        return self

    def set(self, key: str, value: str) -> None:
        """Keep a value."""
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes:
        """Wait for a value."""
        while key not in self.values:
            time.sleep(0.01)
        return self.values[key]


def launch(rank: int) -> Meeting:
    return Meeting(rank, 3, rank, 3, "127.0.0.1", 0, "vram/0", has_store=True)


def test_other_ranks_start_workers_for_rank_0_until_it_ends() -> None:
    others = [threading.Thread(target=serve_rank_zero, args=(launch(rank),)) for rank in (2, 1)]
    for thread in others:
        thread.start()
    with rank_zero(launch(0)):
        ranks = current_ranks()
        assert ranks is not None
        for group in (1, 2):
            workers = ranks.start(ENVIRONMENT)
            assert [isinstance(worker, RemoteWorker) for worker in workers] == [False, True, True]
            places = ranks.places()
            assert [(place.rank, place.local_rank, place.ranks) for place in places] == [
                (0, 0, 3),
                (1, 1, 3),
                (2, 2, 3),
            ]
            assert {place.store for place in places} == {f"tcp:127.0.0.1:0/vram/0/{group}"}
            for worker in workers:
                worker.end()
    for thread in others:
        thread.join(10)
        assert not thread.is_alive()
    assert current_ranks() is None


def test_a_rank_that_does_not_connect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched_ranks, "_WAIT_SECONDS", 0.2)
    with rank_zero(launch(0)):
        address = json.loads(launch(0).get("address"))
        with socket.create_connection(("127.0.0.1", address["port"])) as stranger:
            Connection(stranger).send(b"h", json.dumps({"token": "wrong", "rank": 1}).encode())
            ranks = current_ranks()
            assert ranks is not None
            with pytest.raises(MachineError, match="rank 1 of the launch has not connected"):
                ranks.start(ENVIRONMENT)
