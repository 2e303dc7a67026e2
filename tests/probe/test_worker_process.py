"""The worker as a process: what user code does to it, its signals, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from vram_cli.config import Config, load_config
from vram_cli.errors import MachineError, ProbeError, VramError, WorkloadError
from vram_cli.probe.stopped_worker import start_error
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have fewer signals")

ROOT = Path(__file__).parents[2]
STARTING = """
import os, subprocess, time
subprocess.Popen(["sleep", "60"])
subprocess.Popen(["sleep", "60"], start_new_session=True)
subprocess.run(["sh", "-c", "setsid sleep 60 & exit"])
os.fork() or time.sleep(60)
"""
"""Four processes: in the worker's group, in another session, an orphan of another session, and a copy of the worker."""
PARENT = f"""
import sys, time
from vram_cli.probe.worker_process import WorkerProcess
worker = WorkerProcess({{}}, entry="tests.probe.obeying_worker")
worker.request({STARTING!r}, timeout=30)
print(worker.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def mark() -> str:
    return uuid4().hex


def environment(mark: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "VRAM_TEST": mark}


@pytest.fixture
def worker(mark: str) -> Iterator[WorkerProcess]:
    process = WorkerProcess(environment(mark), entry="tests.probe.obeying_worker")
    yield process
    process.end()


def alive(mark: str) -> int:
    """Return the number of processes that a test has left, after at most five seconds in which they may end."""
    end = time.monotonic() + 5
    while (found := sum(_mark_of(process) == mark for process in psutil.process_iter())) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("VRAM_TEST")
    except psutil.Error:
        return None


def stopped(worker: WorkerProcess, code: str, timeout: float = 20) -> WorkerStopped:
    with pytest.raises(WorkerStopped) as caught:
        worker.request(code, timeout=timeout)
    return caught.value


def test_processes_of_user_code_end_with_the_worker(worker: WorkerProcess, mark: str) -> None:
    worker.request(STARTING, timeout=30)
    started = time.monotonic()
    worker.end()
    assert time.monotonic() - started < 5
    assert alive(mark) == 0


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_processes_of_user_code_end_with_a_killed_vram(state: str, mark: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env={**os.environ, **environment(mark)}, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    assert alive(mark) == 0


def test_worker_that_is_killed_is_noticed_although_its_copy_runs_on(worker: WorkerProcess, mark: str) -> None:
    code = "import os, signal, time; os.fork() or time.sleep(60); os.kill(os.getpid(), signal.SIGKILL)"
    assert stopped(worker, code).outcome is Outcome.KILLED
    worker.end()
    assert alive(mark) == 0


def test_copy_of_the_worker_does_not_reply(worker: WorkerProcess) -> None:
    worker.request("import os; os.fork()", timeout=20)
    with pytest.raises(WorkerStopped):
        worker.request("import time; time.sleep(60)", timeout=0.3)


def test_writing_into_inherited_descriptors_is_harmless(worker: WorkerProcess) -> None:
    code = "import contextlib, os\nfor f in range(3, 200):\n  with contextlib.suppress(OSError): os.write(f, b'x\\n')"
    worker.request(code, timeout=20)
    worker.request("", timeout=20)
    assert not worker.has_ended


def test_writing_into_the_pipe_of_answers_is_named(worker: WorkerProcess) -> None:
    code = "import contextlib, os\nfor f in range(3, 999):\n  with contextlib.suppress(OSError): os.write(f, b'x\\n')"
    stop = stopped(worker, code)
    assert (stop.outcome, stop.message) == (Outcome.ERROR, "wrote 'x' into the pipe of its answers")
    assert isinstance(start_error(stop, worker, own_code(), "before its first trial"), WorkloadError)


def test_closing_all_descriptors_is_an_exit(worker: WorkerProcess) -> None:
    assert stopped(worker, "import os; os.closerange(3, 999)").outcome is Outcome.KILLED
    assert worker.exited


def test_standard_error_is_bounded(worker: WorkerProcess) -> None:
    worker.request("import os\nfor i in range(5): os.write(2, b'y' * 1_000_000)\nos.write(2, b'last')", timeout=20)
    stopped(worker, "import os; os._exit(1)")
    assert len(worker.stderr()) == 1 << 20
    assert worker.stderr().endswith("ylast")


def own_code() -> Config:
    return load_config("mlp_mnist.yaml", ["model={factory: 'mine:net'}"])


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import os; os.kill(os.getpid(), 15)", MachineError, "SIGTERM is a signal from outside"),
        ("import os; os.kill(os.getpid(), 9)", MachineError, "SIGKILL is a signal from outside"),
        ("import os; os.kill(os.getpid(), 24)", MachineError, "limit of CPU time"),
        ("import os; os._exit(3)", WorkloadError, "must raise an exception instead of exiting"),
        ("raise type('Odd', (BaseException,), {})", WorkloadError, "must raise an exception instead of exiting"),
        ("import atexit, time; atexit.register(time.sleep, 60); raise SystemExit", WorkloadError, "instead of exiting"),
        ("raise OSError(12, 'Cannot allocate memory')", MachineError, "ulimit -a"),
        ("1 / 0", ProbeError, "ZeroDivisionError"),
    ],
)
def test_who_ended_the_worker(code: str, kind: type[VramError], words: str, worker: WorkerProcess) -> None:
    error = start_error(stopped(worker, code), worker, own_code(), "before its first trial")
    assert type(error).__mro__.index(kind) <= 1
    assert words in error.hint


def test_system_without_another_process_is_a_fact_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(MachineError, match="cannot be started: Too many open files"):
        WorkerProcess({})
