"""Trials of two real ranks on the CPU: their workers are forks of this process. Run by test_ranks.py."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psutil
import pytest
import torch._dynamo  # noqa: F401 - each fork would import these anew
import torchvision  # noqa: F401

import vram_cli.probe.worker.rank_trials  # noqa: F401
from vram_cli.commands.find_batch import find_batch
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, ProbeError, WorkloadError
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.ranks.local_ranks import LocalRanks
from vram_cli.probe.ranks.rank_probe import RankProbe
from vram_cli.probe.worker.main import TrialService
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Detail, Limit, Measurement, Outcome, Phase

MIB = 1024**2
HERE = "tests.probe.ranks.trainings"
PHASES = ("build", "batch", "forward", "backward", "optimizer")


def fork(environment: Mapping[str, str]) -> WorkerProcess:
    return ForkedWorker(environment, TrialService())


def config(*overrides: str, **fault: Any) -> Config:
    arguments = {"phase": "", **fault}
    kwargs = "{" + ", ".join(f"{key}: {value!r}" for key, value in arguments.items()) + "}"
    return load_config(
        "mlp_mnist.yaml",
        [
            f"model={{factory: '{HERE}:Faulty', kwargs: {kwargs}}}",
            f"data={{factory: '{HERE}:FaultySamples', kwargs: {kwargs}}}",
            f"optimizer={{factory: '{HERE}:FaultyStep', kwargs: {kwargs}}}",
            "parallel.ranks=2",
            "device.name=cpu",
            "search.trial_timeout=30",
            *overrides,
        ],
    )


def probe(training: Config) -> RankProbe:
    return RankProbe(training, ranks=LocalRanks(2, fork))


def outcomes(measurement: Measurement) -> list[Outcome | None]:
    return [each.outcome for each in measurement.ranks]


@pytest.fixture(autouse=True)
def no_process_stays() -> Any:
    yield
    deadline = time.monotonic() + 5
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_two_ranks_run_with_rows_that_add_up() -> None:
    with probe(config("parallel.strategy=ddp")) as ranks:
        measurement = ranks.measure(8, Detail.ROWS)
        assert ranks.confirm(8).fits
    assert outcomes(measurement) == [Outcome.FITS, Outcome.FITS]
    assert measurement.steps == 3
    breakdown = measurement.breakdown
    assert breakdown is not None
    assert sum(row.bytes for row in breakdown.rows) == breakdown.total_bytes == ranks.info.device.capacity_bytes
    assert ranks.info.parallel is not None
    assert (ranks.info.parallel.ranks, ranks.info.global_batch_size(8)) == (2, 16)


def test_the_rank_with_the_smaller_limit_decides() -> None:
    wide = ("data={inputs: {x: {shape: [65536]}}, targets: {shape: [], dtype: int64, high: 10}}",)
    wide += (
        "model={factory: 'torch.nn:Linear', kwargs: {in_features: 65536, out_features: 10}}",
        "optimizer={name: sgd}",
    )
    uneven = config("parallel.memory_limits=[90MiB, 60MiB]", "search.tolerance=0.05", *wide)
    answer = find_batch(uneven, open_probe=lambda config, **_: probe(config))
    assert (answer.run.device.capacity_bytes, answer.limited_by) == (60 * MIB, Limit.MEMORY)
    assert answer.certificate is not None
    assert (answer.certificate.rank, answer.certificate.outcome) == (1, Outcome.OUT_OF_MEMORY)
    failed = next(trial for trial in answer.trials if trial.outcome is Outcome.OUT_OF_MEMORY)
    assert failed.ranks[0].outcome is None, "the other rank waited, or lost its peer"
    assert (answer.max_batch_size or 0) * 65536 * 4 > 25 * MIB
    with probe(config("parallel.memory_limits=[90MiB, 90MiB]", *wide)) as ranks:
        assert ranks.measure(2 * (answer.max_batch_size or 0) - 128).fits


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
def test_a_rank_that_is_killed_ends_the_trial(phase: str, rank: int) -> None:
    started = time.monotonic()
    with probe(config(kind="kill", rank=rank, phase=phase)) as ranks:
        measurement = ranks.measure(8)
    assert (measurement.outcome, measurement.rank, measurement.phase) == (Outcome.KILLED, rank, Phase(phase))
    assert measurement.message == "the trial's process was ended by SIGKILL"
    assert measurement.ranks[1 - rank].outcome is None
    assert time.monotonic() - started < 25


def test_a_rank_that_hangs_ends_at_the_time_limit_of_a_trial() -> None:
    with probe(config("search.trial_timeout=3", kind="hang", rank=1, phase="forward")) as ranks:
        measurement = ranks.measure(8)
        assert measurement.outcome is Outcome.TIMED_OUT
        assert ranks.measure(2).fits, "the next group is a new one"


def test_an_error_of_one_rank_is_that_of_the_user() -> None:
    with probe(config(kind="raise", rank=1, phase="backward")) as ranks:
        measurement = ranks.measure(8)
    assert (measurement.outcome, measurement.rank) == (Outcome.ERROR, 1)
    assert "one rank is wrong" in measurement.message
    assert "trainings.py" in measurement.traceback


def test_a_rank_whose_code_exits_is_refused() -> None:
    with probe(config(kind="exit", rank=1, phase="forward")) as ranks, pytest.raises(WorkloadError) as caught:
        ranks.measure(8)
    assert caught.value.message.startswith("rank 1: model.factory")
    assert caught.value.message.endswith("ended with exit code 5")


def test_memory_is_the_reason_if_one_rank_lacks_it_and_the_other_loses_its_peer() -> None:
    with probe(config(kind="memory", rank=0, phase="forward")) as ranks:
        measurement = ranks.measure(8)
    assert (measurement.outcome, measurement.rank) == (Outcome.OUT_OF_MEMORY, 0)
    assert outcomes(measurement) == [Outcome.OUT_OF_MEMORY, None]


def test_an_error_while_opening_is_said_once() -> None:
    training = config("parallel={strategy: fsdp2, ranks: 2, modules: 'nothing.*'}")
    with pytest.raises(ConfigError) as caught, probe(training):
        pass
    assert caught.value.message == "parallel.modules: no module is called 'nothing.*'"


def test_a_closed_probe_ends_a_trial() -> None:
    with probe(config()) as ranks:
        ranks.__exit__(None, None, None)
        with pytest.raises(ProbeError, match="closed"):
            ranks.measure(8)
