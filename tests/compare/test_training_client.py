"""Trainings whose process is killed, or makes no progress, with a worker that plays its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compare.test_results_file import PLAN, make_run
from vram_cli.compare.messages import RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.training_client import TrainingClient
from vram_cli.config import load_config
from vram_cli.errors import CutShortError, ProbeError
from vram_cli.probe.worker_process import WorkerStopped
from vram_cli.records import Outcome

KILLED = WorkerStopped(Outcome.KILLED, "was ended by SIGKILL")
STUCK = WorkerStopped(Outcome.TIMED_OUT, "stopped after 8 s")
RAM = WorkerStopped(Outcome.HOST_MEMORY, "the computer was about to run out of RAM")
DONE = TrainingDone(run=make_run())
REQUEST = RunTraining(batch_size=8, micro_batches=1, repeat=0, fold=0, learning_rate=0.1)


class PlayedWorker:
    """Answers each training with the next of its answers."""

    def __init__(self, answers: Iterator[WorkerStopped | TrainingDone], signal: str) -> None:
        self._answers, self.signal_from_outside = answers, signal
        self.exited = False

    def request(self, message: Any, *_: Callable[[TrainingProgress], None], **limits: Any) -> Any:
        if not isinstance(message, RunTraining):
            return None
        assert limits == {"timeout": 8, "is_per_event": True}
        answer = next(self._answers)
        if isinstance(answer, WorkerStopped):
            raise answer
        return answer

    def stderr(self) -> str:
        return "last words"

    def end(self) -> None:
        pass


def train(*answers: WorkerStopped | TrainingDone, signal: str = "SIGKILL") -> TrainingDone:
    rest = iter(answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vram_cli.compare.training_client.WorkerProcess", lambda *_, **__: PlayedWorker(rest, signal))
        config = load_config("mlp_mnist.yaml", ["search.trial_timeout=8"])
        with TrainingClient(config, PLAN, device="cpu", max_eval_batch=8) as client:
            return client.train(REQUEST, lambda _: None)


def test_training_that_is_killed_once_is_repeated() -> None:
    assert train(KILLED, DONE) == DONE


def test_training_that_is_killed_twice_does_not_say_that_it_does_not_fit() -> None:
    with pytest.raises(CutShortError, match="training with batch size 8 was ended by SIGKILL") as caught:
        train(KILLED, KILLED)
    assert caught.value.exit_code == 3
    assert "finished runs are kept: run the same command to go on" in caught.value.hint


@pytest.mark.parametrize(("stop", "words"), [(STUCK, "no progress for 8 s"), (RAM, "run out of RAM")])
def test_training_that_is_stopped(stop: WorkerStopped, words: str) -> None:
    with pytest.raises(CutShortError, match=words) as caught:
        train(stop, DONE)
    assert "finished runs are kept" in caught.value.hint


def test_training_that_crashes_is_a_bug() -> None:
    with pytest.raises(ProbeError, match="SIGSEGV"):
        train(WorkerStopped(Outcome.KILLED, "was ended by SIGSEGV"), signal="")


def test_training_out_of_memory_is_an_answer() -> None:
    assert train(TrainingDone(run=None, message="out of memory")).message == "out of memory"
