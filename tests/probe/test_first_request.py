"""The limits of time before the first trial, with a worker that never replies."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vram_cli.config import load_config
from vram_cli.errors import CutShortError
from vram_cli.probe.first_request import START_TIMEOUT_S, first_reply
from vram_cli.probe.messages import ImportTorch
from vram_cli.probe.worker_process import WorkerStopped
from vram_cli.records import Outcome

CONFIG = load_config("mlp_mnist.yaml", ["search.trial_timeout=8"])


class SilentWorker:
    """Does not reply to a kind of message, and records the timeouts."""

    def __init__(self, silent: type) -> None:
        self._silent = silent
        self.timeouts: list[float] = []
        self.is_ended = False

    def request(self, message: Any, *, timeout: float) -> str:
        self.timeouts.append(timeout)
        if isinstance(message, self._silent):
            raise WorkerStopped(Outcome.TIMED_OUT, f"stopped after {timeout:.0f} s")
        return "reply"

    def end(self) -> None:
        self.is_ended = True


def late(silent: type, **options: Any) -> tuple[SilentWorker, CutShortError]:
    worker: Any = SilentWorker(silent)
    with pytest.raises(CutShortError) as caught:
        first_reply(worker, "open", CONFIG, **{"download": False, **options})
    assert worker.is_ended
    assert caught.value.exit_code == 3
    return worker, caught.value


def test_code_of_the_config_has_the_time_of_a_trial() -> None:
    worker, error = late(str)
    assert worker.timeouts == [START_TIMEOUT_S, 8]
    assert "not ready for its first trial within 8 s" in error.message
    assert "search.trial_timeout" in error.hint


def test_downloads_have_more_time() -> None:
    assert late(str, download=True)[0].timeouts == [START_TIMEOUT_S, START_TIMEOUT_S]


@pytest.mark.parametrize("silent", [ImportTorch, str])
def test_deadline_ends_every_stage(silent: type) -> None:
    worker, error = late(silent, deadline=time.monotonic() + 5)
    assert max(worker.timeouts) <= 5
    assert "--time-limit" in error.hint
