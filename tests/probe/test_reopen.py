"""One probe asked of one config after the other: predictions go on in the same process, real trials get a new one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.probe.conftest import small_config
from vram_cli.config import load_config, with_overrides
from vram_cli.errors import ConfigError, ProbeError
from vram_cli.probe import WorkerProbe
from vram_cli.records import Category
from vram_cli.units import GIB

PREDICTED = load_config("mlp_mnist.yaml", ["device.gpu=t4", "device.memory_limit=2GiB"])
REFUSED = with_overrides(PREDICTED, ["train.activation_checkpointing=full"])  # an MLP has no repeated blocks


@pytest.fixture(scope="module")
def predicting() -> Iterator[WorkerProbe]:
    with WorkerProbe(PREDICTED) as opened:
        yield opened


@pytest.fixture(autouse=True)
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "predicting" in request.fixturenames:
        request.getfixturevalue("predicting").reopen(PREDICTED)


def state_bytes(probe: WorkerProbe) -> int:
    measured = probe.measure(8, explain=True)
    assert measured.breakdown is not None
    return measured.breakdown.bytes_of(Category.OPTIMIZER_STATE)


def test_a_prediction_goes_on_in_the_process_that_has_imported_everything(predicting: WorkerProbe) -> None:
    pid, momentum = predicting.pid, state_bytes(predicting)
    predicting.reopen(with_overrides(PREDICTED, ["optimizer.momentum=0"]))
    assert state_bytes(predicting) == 0
    predicting.reopen(with_overrides(PREDICTED, ["optimizer.name=adam"]))
    assert state_bytes(predicting) >= 2 * momentum > 0
    assert predicting.pid == pid


def test_device_and_room_are_those_of_the_config_that_is_open(predicting: WorkerProbe) -> None:
    assert (predicting.device.name, predicting.device.capacity_bytes) == ("Tesla T4", 2 * GIB)
    predicting.reopen(with_overrides(PREDICTED, ["device.gpu=l4", "device.memory_limit=3GiB", "device.overhead=1GiB"]))
    assert (predicting.device.name, predicting.device.capacity_bytes) == ("NVIDIA L4", 3 * GIB)
    assert predicting.capacity_bytes == 2 * GIB


def test_after_a_refusal_another_config_works_in_the_same_process(predicting: WorkerProbe) -> None:
    pid, before = predicting.pid, predicting.measure(64).peaks
    with pytest.raises(ConfigError, match="finds no repeated blocks"):
        predicting.reopen(REFUSED)
    with pytest.raises(ProbeError):  # nothing is open whose device could be told
        _ = predicting.device
    predicting.reopen(PREDICTED)
    assert predicting.measure(64).peaks == before
    assert predicting.pid == pid


def test_a_config_that_was_refused_cannot_be_measured(predicting: WorkerProbe) -> None:
    """Least of all by what was open before it."""
    with pytest.raises(ConfigError, match="finds no repeated blocks"):
        predicting.reopen(REFUSED)
    with pytest.raises(ConfigError, match="finds no repeated blocks"):
        predicting.measure(8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")
def test_real_trials_get_a_new_process_and_a_new_device() -> None:
    with WorkerProbe(small_config()) as real:
        pid = real.pid
        assert real.measure(8).resident_bytes == 2 * 4 * 101_770
        real.reopen(small_config("optimizer.momentum=0", "device.memory_limit=96MiB"))
        assert real.pid != pid
        assert real.measure(8).resident_bytes == 4 * 101_770
        assert real.device.capacity_bytes == 96 * 1024**2
