"""Timing trials: the number of steps, complete steps, and no settings that slow them down."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.probe.conftest import small_config
from vram_cli.config import load_config
from vram_cli.probe import WorkerProbe
from vram_cli.probe.devices.malloc import REPRODUCIBLE_MALLOC_ENV
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker.timing_trial import ENOUGH, LONG_STEPS, WARMUP_STEPS, TimingTrials, time_steps
from vram_cli.records import Detail, Outcome


@dataclass
class Steps:
    """Steps of constant duration on a fake clock; the first may take longer."""

    seconds: float
    first: float = 0.0
    now: float = 0.0
    count: int = 0

    def __call__(self) -> None:
        self.now += self.seconds + (self.first if self.count == 0 else 0)
        self.count += 1

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        (0.0001, 2000),  # never more than that
        (0.01, 100),  # a second of them
        (0.25, ENOUGH[1]),  # as many as quartiles need
        (2.0, 5),  # no longer than the limit
        (60.0, LONG_STEPS[1]),  # and never fewer than that
    ],
)
def test_number_of_timed_steps(seconds: float, count: int) -> None:
    steps = Steps(seconds)
    times = time_steps(steps, steps.clock)
    assert len(times) == pytest.approx(count, abs=1)
    assert times == pytest.approx([seconds] * len(times))


def test_warmup_steps_are_not_timed() -> None:
    steps = Steps(0.1, first=5.0)
    times = time_steps(steps, steps.clock)
    assert max(times) < 0.2
    assert steps.count == len(times) + WARMUP_STEPS


def test_warmup_of_long_steps_is_one_step() -> None:
    steps = Steps(60.0)
    assert len(time_steps(steps, steps.clock)) == LONG_STEPS[1]
    assert steps.count == LONG_STEPS[1] + 1


class Counting(torch.nn.Module):
    """A linear layer that counts the calls of all its instances."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.calls += 1
        return self.layer(x)


def in_this_process(*overrides: str) -> TimingTrials:
    model = "model={factory: 'tests.probe.worker.test_timing_trial:Counting'}"
    data = "data={inputs: {x: {shape: [4]}}, targets: {shape: [], dtype: int64, high: 2}}"
    return TimingTrials(load_config("mlp_mnist.yaml", [model, data, "device.name=cpu", *overrides]), download=False)


def test_timed_step_runs_all_micro_batches() -> None:
    Counting.calls = 0
    done = in_this_process("train.gradient_accumulation_steps=5").run(RunTrial(batch_size=2), lambda _: None)
    measured = done.measurement
    assert measured.outcome is Outcome.FITS
    assert len(measured.timed_seconds) == measured.steps >= ENOUGH[1]
    assert Counting.calls == 5 * (measured.steps + WARMUP_STEPS)
    assert measured.peaks == ()


def test_error_is_an_outcome() -> None:
    done = in_this_process("model.kwargs={surprise: 1}").run(RunTrial(batch_size=2), lambda _: None)
    assert done.measurement.outcome is Outcome.ERROR
    assert "surprise" in done.measurement.message
    assert done.measurement.timed_seconds == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the environment from /proc")
def test_timing_process_has_no_malloc_settings() -> None:
    def environment(pid: int | None) -> dict[str, str]:
        entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    with WorkerProbe(small_config()) as probe:
        first, capacity = probe.pid, probe.info.device.allocator_bytes
        assert environment(first).items() >= REPRODUCIBLE_MALLOC_ENV.items()
        measured = probe.measure(16, Detail.TIMES)
        assert probe.pid != first
        assert not environment(probe.pid).keys() & REPRODUCIBLE_MALLOC_ENV.keys()
        assert measured.fits
        assert len(measured.timed_seconds) >= ENOUGH[1]
        assert measured.step_seconds == min(measured.timed_seconds)
        assert probe.info.device.allocator_bytes == capacity
