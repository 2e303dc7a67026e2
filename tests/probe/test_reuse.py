"""A probe that takes over the worker of another one: predictions go on in the same process, real trials do not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.probe.conftest import small_config
from vram_cli.config import load_config, with_overrides
from vram_cli.errors import ConfigError
from vram_cli.probe import WorkerProbe
from vram_cli.records import Category, Detail
from vram_cli.units import GIB

PREDICTED = load_config("mlp_mnist.yaml", ["device.gpu=t4", "device.memory_limit=2GiB"])
REFUSED = with_overrides(PREDICTED, ["train.activation_checkpointing=full"])  # an MLP has no repeated blocks


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def predicting(stack: ExitStack) -> WorkerProbe:
    return stack.enter_context(WorkerProbe(PREDICTED))


def state_bytes(probe: WorkerProbe) -> int:
    breakdown = probe.measure(8, Detail.ROWS).breakdown
    assert breakdown is not None
    return breakdown.bytes_of(Category.OPTIMIZER_STATE)


def test_predictions_share_a_process(predicting: WorkerProbe, stack: ExitStack) -> None:
    pid, momentum = predicting.pid, state_bytes(predicting)
    plain = with_overrides(PREDICTED, ["optimizer.momentum=0"])
    second = stack.enter_context(WorkerProbe(plain, reuse=predicting))
    assert state_bytes(second) == 0
    third = stack.enter_context(WorkerProbe(with_overrides(PREDICTED, ["optimizer.name=adam"]), reuse=second))
    assert state_bytes(third) >= 2 * momentum > 0
    assert third.pid == pid
    assert predicting.pid is None


def test_info_is_that_of_the_new_config(predicting: WorkerProbe, stack: ExitStack) -> None:
    assert (predicting.info.device.name, predicting.info.device.capacity_bytes) == ("Tesla T4", 2 * GIB)
    config = with_overrides(PREDICTED, ["device.gpu=l4", "device.memory_limit=3GiB", "device.overhead=1GiB"])
    device = stack.enter_context(WorkerProbe(config, reuse=predicting)).info.device
    assert (device.name, device.capacity_bytes, device.allocator_bytes) == ("NVIDIA L4", 3 * GIB, 2 * GIB)


def test_a_refused_config_leaves_the_first_probe_usable(predicting: WorkerProbe) -> None:
    pid, before = predicting.pid, predicting.measure(64).peaks
    with pytest.raises(ConfigError, match="repeated blocks"), WorkerProbe(REFUSED, reuse=predicting):
        pass
    assert predicting.measure(64).peaks == before
    assert predicting.pid == pid


def test_other_code_folders_get_a_new_process(predicting: WorkerProbe, stack: ExitStack) -> None:
    pid = predicting.pid
    code = "model={factory: 'tests.fake_tensors.nets:ConvNet'}"
    data = "data={name: synthetic, shape: [3, 8, 8], classes: 10}"
    config = load_config("mlp_mnist.yaml", [code, data, "device.gpu=t4"])
    assert stack.enter_context(WorkerProbe(config, reuse=predicting)).pid != pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")
def test_real_trials_get_a_new_process_and_device(stack: ExitStack) -> None:
    first = stack.enter_context(WorkerProbe(small_config()))
    pid = first.pid
    assert first.measure(8).resident_bytes == 2 * 4 * 101_770
    config = small_config("optimizer.momentum=0", "device.memory_limit=96MiB")
    second = stack.enter_context(WorkerProbe(config, reuse=first))
    assert first.pid is None
    assert second.pid != pid
    assert second.measure(8).resident_bytes == 4 * 101_770
    assert second.info.device.capacity_bytes == 96 * 1024**2
