"""A prediction whose process dies, hangs or takes all RAM gives no answer about a GPU, in any command."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.cli.running import Answer, vram
from vram_cli.commands.calibrate import RUNS, config_of
from vram_cli.commands.initial_guess import InitialGuess
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import CutShortError, WorkloadError
from vram_cli.probe import WorkerProbe, open_probe
from vram_cli.records import Detail, Device, Outcome
from vram_cli.units import GIB

GPU = Device(kind="real", name="NVIDIA GeForce RTX 3090", type="cuda:0", capacity_bytes=24 * GIB)
CONFIG = """
model: {factory: "dying:build"}
data: {name: synthetic, shape: [1, 2, 4], classes: 2}
optimizer: {name: sgd}
train: {batch_size: 4}
"""
MODEL = """
import ctypes, os, signal, sys, time
from torch import nn

class Dying(nn.Linear):
    def forward(self, numbers):
        ACTION
        return super().forward(numbers.flatten(1))

def build():
    return Dying(8, 2)
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
ABORTED = "os.abort()"
UNCAUGHT = "ctypes.CDLL('libstdc++.so.6')._ZSt20__throw_length_errorPKc(b'too long')"
"""An uncaught C++ exception, as PyTorch may throw one: the user's line that was running is not at fault."""
COMMANDS = {"find-batch": [], "breakdown": [], "advise": [], "check": ["--max-memory", "1GiB"]}

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="loads libstdc++ by its name on Linux")


def dying(folder: Path, action: str, code: str = ".") -> Path:
    """Write a model that does something in its forward pass into the folder `code`; return the path of a config."""
    (folder / code).mkdir(parents=True, exist_ok=True)
    (folder / code / "dying.py").write_text(MODEL.replace("ACTION", action))
    (folder / "mine.yaml").write_text(CONFIG)
    return folder / "mine.yaml"


def dying_config(folder: Path, action: str, *overrides: str) -> Config:
    return load_config(str(dying(folder, action)), ["device.gpu=t4", *overrides])


def run(command: str, config: Path, *arguments: str, path: str = "") -> Answer:
    path = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path} if path else None
    place = ["--config", str(config), "--gpu", "t4", "--quiet"]
    return vram(command, *place, *arguments, folder=config.parent, env=env)


def check_no_answer(answer: Answer, code: int, *words: str) -> None:
    assert (answer.code, answer.stdout) == (code, ""), answer.stderr
    assert "does not" not in answer.stderr
    assert "Traceback" not in answer.stderr
    flat = " ".join(answer.stderr.split())
    for word in ("error: ", "hint: this says nothing about the GPU's memory", *words):
        assert word in flat, answer.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_process(command: str, tmp_path: Path) -> None:
    answer = run(command, dying(tmp_path, KILLED), *COMMANDS[command])
    words = "the prediction of batch", "for Tesla T4 failed", "was ended by SIGKILL", "a signal from outside"
    check_no_answer(answer, 3, *words)


@linux
@pytest.mark.parametrize("command", COMMANDS)
def test_uncaught_cpp_exception(command: str, tmp_path: Path) -> None:
    answer = run(command, dying(tmp_path, UNCAUGHT), *COMMANDS[command])
    check_no_answer(
        answer, 70, "SIGABRT: std::length_error: too long", "that process also ran model.factory (dying:build)"
    )


def test_crash_in_user_code_names_the_file(tmp_path: Path) -> None:
    answer = run("find-batch", dying(tmp_path, ABORTED))
    assert (answer.code, answer.stdout) == (2, "")
    assert "model.factory (dying:build): the process that runs this code was ended by SIGABRT" in answer.stderr
    assert "dying.py" in answer.stderr


def test_crash_in_an_installed_package(tmp_path: Path) -> None:
    config = dying(tmp_path, ABORTED, "site-packages")
    answer = run("breakdown", config, path=str(tmp_path / "site-packages"))
    check_no_answer(answer, 70, "Fatal Python error: Aborted", "dying:build")


def test_exit_in_user_code(tmp_path: Path) -> None:
    answer = run("breakdown", dying(tmp_path, "os._exit(9)"))
    assert (answer.code, answer.stdout) == (2, "")
    assert "dying:build): the process that runs this code ended with exit code 9" in answer.stderr


def test_killed_process_without_user_code_is_replaced() -> None:
    with WorkerProbe(load_config("mlp_mnist.yaml", ["device.gpu=t4"])) as probe:
        before = probe.measure(64).peaks
        os.kill(probe.pid or 0, signal.SIGKILL)
        with pytest.raises(CutShortError, match=r"the prediction of batch 128 for Tesla T4 failed: .* SIGKILL"):
            probe.measure(128)
        assert probe.measure(64).peaks == before


def test_killed_process_of_an_advised_change(tmp_path: Path) -> None:
    autocast = "__import__('torch').is_autocast_enabled('cuda') and " + KILLED
    check_no_answer(run("advise", dying(tmp_path, autocast)), 3, "SIGKILL")


def test_killed_process_of_the_initial_guess(tmp_path: Path) -> None:
    config = dying_config(tmp_path, KILLED, "device.gpu=null")
    with InitialGuess(config, replace(GPU, outside_bytes=23 * GIB), None, open_probe) as guess:
        assert guess.batch_size() is None


def test_trial_timeout(tmp_path: Path) -> None:
    config = dying(tmp_path, "time.sleep(600)")
    answer = run("find-batch", config, "--set", "search.trial_timeout=1")
    check_no_answer(answer, 3, "the prediction of batch 1 for Tesla T4 did not finish within 1 s", "trial_timeout")


def test_time_limit_before_the_first_prediction(tmp_path: Path) -> None:
    answer = run("find-batch", dying(tmp_path, "time.sleep(600)"), "--time-limit", "1")
    check_no_answer(answer, 3, "the time was over before", "--time-limit")


def test_deadline_is_an_outcome(tmp_path: Path) -> None:
    config = dying_config(tmp_path, "len(numbers) > 4 and time.sleep(600)")
    with WorkerProbe(config, deadline=time.monotonic() + 3600) as probe:
        assert probe.measure(4).fits
        probe._deadline = time.monotonic() + 1
        assert probe.measure(5).outcome is Outcome.TIMED_OUT


def test_computer_without_free_ram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerProbe(dying_config(tmp_path, "time.sleep(600)")) as probe:
        monkeypatch.setattr("vram_cli.probe.worker_process.available_bytes", lambda: 0)
        with pytest.raises(CutShortError, match="the computer was about to run out of RAM") as caught:
            probe.measure(4)
    assert caught.value.exit_code == 3


def test_memory_error_in_a_prediction(tmp_path: Path) -> None:
    answer = run("find-batch", dying(tmp_path, "raise MemoryError"))
    check_no_answer(answer, 3, "the computer ran out of RAM as batch 1 was predicted", "MemoryError")


def test_killed_prediction_of_a_calibration() -> None:
    with WorkerProbe(config_of(RUNS[0], {"gpu": "t4"}), calibrated=False) as probe:
        os.kill(probe.pid or 0, signal.SIGKILL)
        with pytest.raises(CutShortError, match=r"the prediction of batch 8 .* failed"):
            probe.measure(8, Detail.ROWS)


@pytest.mark.parametrize(
    ("place", "has_settings"),
    [(["--gpu", "t4"], False), (["--device", "cpu", "--memory-limit", "64MiB"], True)],
)
def test_only_real_cpu_trials_have_malloc_settings(place: list[str], has_settings: bool, tmp_path: Path) -> None:
    config = dying(tmp_path, "open('environment', 'w').write(' '.join(os.environ))")
    answer = vram("breakdown", "--config", str(config), *place, "--quiet", folder=tmp_path)
    assert answer.code == 0, answer.stderr
    assert ("PYTHONMALLOC" in (tmp_path / "environment").read_text().split()) is has_settings


def test_malloc_settings_follow_the_config_of_a_reused_probe() -> None:
    predicted = load_config("mlp_mnist.yaml", ["device.gpu=t4"])
    real = load_config("mlp_mnist.yaml", ["device.name=cpu", "device.memory_limit=64MiB"])
    workers: list[tuple[int | None, bool]] = []
    with ExitStack() as stack:
        probe: WorkerProbe | None = None
        for config in (predicted, real, predicted, with_overrides(predicted, ["optimizer.name=adam"])):
            probe = stack.enter_context(WorkerProbe(config, reuse=probe))
            workers.append((probe.pid, "PYTHONMALLOC" in psutil.Process(probe.pid).environ()))
    assert [has_settings for _, has_settings in workers] == [False, True, False, False]
    assert workers[2] == workers[3]  # predictions share a process


def test_crash_has_its_traceback(tmp_path: Path) -> None:
    with WorkerProbe(dying_config(tmp_path, ABORTED)) as probe, pytest.raises(WorkloadError) as caught:
        probe.measure(4)
    assert "dying.py" in caught.value.traceback
