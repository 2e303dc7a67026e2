"""`find_batch` of functions: the answer of the same training as a config, and nothing of the caller's changes."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.probe.live.trainings import CONFIG, batch, generator, net, sgd, step_of, take_step
from vram_cli import find_batch, load_config
from vram_cli.errors import ConfigError, MachineError, WorkloadError
from vram_cli.probe import WorkerProbe
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.live.open_live import open_live
from vram_cli.probe.worker.main import TrialService
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Breakdown, Category, Detail, FindBatchResult, Limit, Measurement, Outcome, Phase

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

TENSORS = (
    Category.PARAMETERS,
    Category.GRADIENTS,
    Category.OPTIMIZER_STATE,
    Category.BATCH_DATA,
    Category.ACTIVATIONS,
    Category.TEMPORARIES,
)
PAGE = Path(__file__).parents[3] / "docs" / "notebooks.md"
LIMITS: Mapping[str, Any] = {"device": "cpu", "memory_limit": "32MiB"}


def found(make_training: Callable[[int], Any], *overrides: str, **options: Any) -> FindBatchResult:
    """Search up to 8 samples unless told otherwise."""
    return find_batch(make_training, overrides=overrides or ("search.max_batch_size=8",), **LIMITS | options)


def measured(make_training: Callable[[int], Any], batch_size: int, *overrides: str) -> Measurement:
    """Run one trial."""
    config = load_config("mlp_mnist.yaml", ["device.name=cpu", "device.memory_limit=32MiB", *overrides])
    with open_live(make_training, config) as probe:
        return probe.measure(batch_size, Detail.MODULES)


def rows(breakdown: Breakdown | None) -> dict[Category, int]:
    assert breakdown is not None
    return {category: breakdown.bytes_of(category) for category in TENSORS}


class ForkedProbe(WorkerProbe):
    """Runs a config in a fork, which starts sooner than a process."""

    def _new_worker(self) -> WorkerProcess:
        return ForkedWorker(self._environment, TrialService())


def test_it_is_searched_to_a_certificate() -> None:
    result = find_batch(generator, device="cpu", memory_limit="8MiB")
    proof = result.certificate
    assert proof is not None
    assert result.max_batch_size is not None
    assert (proof.largest_ok, proof.smallest_failed) == (result.max_batch_size, result.max_batch_size + 1)
    assert (proof.outcome, proof.phase, proof.steps) == (Outcome.OUT_OF_MEMORY, Phase.BACKWARD, 3)
    assert result.limited_by is Limit.MEMORY
    assert result.run.config_name.startswith("generator (trainings.py:")
    assert rows(result.breakdown)[Category.BATCH_DATA] == result.max_batch_size * (784 * 4 + 8)


def test_every_tensor_counts_as_in_the_same_config(tmp_path: Path) -> None:
    (tmp_path / "same.yaml").write_text(CONFIG)
    with ForkedProbe(load_config(tmp_path / "same.yaml", ["device.memory_limit=32MiB"])) as probe:
        expected = probe.measure(1000, Detail.MODULES)
    assert expected.breakdown is not None
    model = net()
    for training in (generator, step_of(model, sgd(model))):  # also one that was made before
        trial = measured(training, 1000)
        assert rows(trial.breakdown) == rows(expected.breakdown)
        assert trial.resident_bytes == expected.resident_bytes
        assert trial.breakdown is not None
        assert [share.path for share in trial.breakdown.modules] == [share.path for share in expected.breakdown.modules]


def test_live_objects_take_part_of_the_limit() -> None:
    model = nn.Linear(1000, 2000)  # 8 MB, and as much for gradients and momentum
    training = step_of(nn.Sequential(nn.Flatten(), nn.Linear(784, 1000), model), sgd(model))
    assert found(training, memory_limit="40MiB").max_batch_size == 8
    assert found(training, memory_limit="28MiB").max_batch_size is None


def test_nothing_of_the_caller_changes() -> None:
    model = net()
    optimizer = sgd(model)
    take_step(model, optimizer, *batch(2))
    before = [parameter.clone() for parameter in model.parameters()]
    state, random_state = torch.get_rng_state(), random.getstate()
    threads, descriptors = torch.get_num_threads(), len([*Path("/proc/self/fd").iterdir()])
    tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    with torch.no_grad():
        found(step_of(model, optimizer))
        assert not torch.is_grad_enabled()
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(state, torch.get_rng_state())
    assert random_state == random.getstate()
    gc.collect()
    assert sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()) <= tensors
    assert (torch.get_num_threads(), len([*Path("/proc/self/fd").iterdir()])) == (threads, descriptors)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_threads_of_openmp_do_not_hang_a_fork() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).mul_(2).sum()  # from here on this process has them
        result = found(generator, "search.max_batch_size=512", "search.trial_timeout=30")
    finally:
        torch.set_num_threads(threads)
    assert result.max_batch_size == 512


def test_a_training_that_ends_early_says_after_how_many_steps() -> None:
    def make_training(n: int) -> Iterator[None]:
        for _ in range(3 if n < 4 else 1):
            yield

    with pytest.raises(WorkloadError, match=r"it ended after 1 of 5 steps of batch size 8.*reading its data again"):
        found(lambda n: make_training(n + 3), steps=5)
    result = found(make_training)
    assert (result.max_batch_size, result.limited_by) == (3, Limit.ERROR)


@pytest.mark.parametrize(
    ("training", "described"), [(lambda _: None, "None"), (lambda _: [1, 2], "a list"), (lambda _: nn.Linear, "a type")]
)
def test_what_is_no_training_is_refused(training: Callable[[int], Any], described: str) -> None:
    with pytest.raises(ConfigError, match=rf"<lambda> \(searches.py:\d+\) returned {described} for") as caught:
        found(training)
    assert "`yield`" in caught.value.hint


def test_an_error_of_the_training_has_its_traceback() -> None:
    def make_training(n: int) -> Callable[[], None]:
        def step() -> None:
            raise ValueError(f"no labels for {n}")

        return step

    with pytest.raises(WorkloadError, match="ValueError: no labels for 8") as caught:
        found(make_training)
    assert 'raise ValueError(f"no labels for {n}")' in caught.value.traceback


def test_an_exit_and_a_signal_end_a_fork_and_not_the_caller() -> None:
    def exits(n: int) -> Callable[[], None]:
        return partial(sys.exit, 5)

    with pytest.raises(WorkloadError, match=r"exits \(searches.py:\d+\): the process that runs this code ended"):
        found(exits)

    def dies(n: int) -> Callable[[], None]:
        return (lambda: os.kill(os.getpid(), signal.SIGKILL)) if n > 5 else (lambda: None)

    result = found(dies)
    proof = result.certificate
    assert proof is not None
    assert (result.max_batch_size, proof.smallest_failed, proof.outcome) == (5, 6, Outcome.KILLED)


def test_a_step_that_hangs_is_stopped() -> None:
    trial = measured(lambda n: partial(time.sleep, 60 if n > 5 else 0), 6, "search.trial_timeout=1")
    assert (trial.outcome, trial.phase) == (Outcome.TIMED_OUT, Phase.BATCH)


def test_a_prediction_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="gpu: t4") as caught:
        find_batch(generator, gpu="t4")
    assert "vram find-batch --gpu t4 -- python FILE" in caught.value.hint


def test_a_platform_without_fork_is_refused_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(MachineError, match=r"device: cpu: .* runs on Windows"):
        found(generator)


def test_the_function_decides_what_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.name=adam: generator \(trainings.py:\d+\) decides it"):
        found(generator, "optimizer.name=adam")
    with pytest.raises(ConfigError, match="with_eval"):
        found(generator, with_eval=True)


def test_two_models_and_two_optimizers_each_have_their_phase() -> None:
    maker, judge = nn.Linear(8, 784), nn.Linear(784, 1)
    optimizers = [torch.optim.Adam(maker.parameters()), torch.optim.Adam(judge.parameters())]

    def make_training(n: int) -> Iterator[None]:
        while True:
            for optimizer in optimizers:
                optimizer.zero_grad()
                judge(maker(torch.rand(n, 8))).sum().backward()
                optimizer.step()
            yield

    trial = measured(make_training, 4)
    assert trial.breakdown is not None
    assert {share.path for share in trial.breakdown.modules} >= {"", "Linear", "Linear_2"}
    parameters = sum(each.nbytes for model in (maker, judge) for each in model.parameters())
    assert rows(trial.breakdown)[Category.PARAMETERS] == parameters
    assert rows(trial.breakdown)[Category.OPTIMIZER_STATE] >= 2 * parameters
    assert [peak.phase for peak in trial.peaks] == list(Phase)[:5]


def test_the_example_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(code, "notebooks.md", "exec"), scope)
    result = scope["result"]
    assert isinstance(result, FindBatchResult)
    assert result.max_batch_size
    assert result.run.config_name == "make_training (notebooks.md:13)"
