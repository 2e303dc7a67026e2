"""The simulated probe answers as the real ones do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError
from vram_cli.fake_tensors import FakeTensorProbe, training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Outcome, Phase
from vram_cli.search import find_largest
from vram_cli.units import GIB, MIB
from vram_cli.workload import build_model

CNN = load_config("cnn_cifar10")


def probe(config: Config = CNN, **options: Any) -> FakeTensorProbe:
    return FakeTensorProbe(config, find_gpu("t4"), **options)


def test_device_and_capacity_are_the_cards() -> None:
    gpu = find_gpu("t4")
    with probe() as simulated:
        assert simulated.device.kind == "simulated"
        assert simulated.device.name == gpu.product
        assert simulated.device.capacity_bytes == gpu.memory_bytes
        assert simulated.capacity_bytes == gpu.memory_bytes - gpu.context_bytes
        assert simulated.data.tensors[0].shape == (3, 32, 32)


def test_overhead_and_capacity_can_be_given() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    assert (simulated.device.capacity_bytes, simulated.capacity_bytes) == (GIB, 924 * MIB)
    with pytest.raises(ConfigError, match="leaves nothing"):
        probe(overhead_bytes=GIB, capacity_bytes=GIB)


def test_the_breakdown_adds_up_to_the_card() -> None:
    measured = probe().measure(128, explain=True)
    assert measured.fits
    assert measured.breakdown is not None  # it adds up, or it could not have been made
    model = build_model(CNN)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert measured.breakdown.bytes_of(Category.PARAMETERS) == weights
    assert measured.breakdown.bytes_of(Category.BATCH_DATA) == 128 * (3 * 32 * 32 * 4 + 8)
    assert [peak.phase for peak in measured.peaks] == list(Phase)
    assert measured.steps >= CNN.search.steps


def test_the_largest_size_is_found_and_the_next_one_says_what_broke() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    found = find_largest(simulated.measure, capacity_bytes=simulated.capacity_bytes, confirm=simulated.measure_afresh)
    assert found.max_batch_size is not None
    assert found.certificate is not None
    failed = simulated.measure_afresh(found.max_batch_size + 1)
    assert failed.outcome is Outcome.OUT_OF_MEMORY
    assert failed.phase in {Phase.FORWARD, Phase.BACKWARD}
    assert failed.requested_bytes is not None
    assert failed.held_bytes is not None
    wanted = failed.held_bytes + failed.requested_bytes  # what is left of the rest of the memory is in pieces
    assert failed.held_bytes <= simulated.capacity_bytes < 1.1 * wanted
    assert failed.message.startswith("fails in ")
    assert "(aten." in failed.message
    assert "requesting" in failed.message
    assert found.certificate.message == failed.message
    assert all(trial.peak_reserved_bytes <= simulated.capacity_bytes for trial in found.trials)


def test_sizes_read_off_the_line_are_those_of_a_simulation_of_their_own() -> None:
    fast, slow = probe(), probe()
    fast.measure(2)
    fast.measure(9)
    for n in (64, 777):
        seen, own = fast.measure(n), slow.measure_afresh(n)
        assert (seen.peaks, seen.resident_bytes, seen.steps) == (own.peaks, own.resident_bytes, own.steps)


class Thriftier(nn.Module):
    """Keeps five tensors for each sample of a small batch, and one of a larger one."""

    def __init__(self, small: int) -> None:
        super().__init__()
        self.small, self.head = small, nn.Linear(3072, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = images.flatten(1)
        for _ in range(4 if len(hidden) < self.small else 0):
            hidden = (hidden * self.head.weight[0]).sigmoid()
        return self.head(hidden)


@pytest.mark.parametrize("small", [2000, 700, 100])
def test_a_size_is_not_said_to_fail_by_a_line_that_does_not_hold(small: int) -> None:
    """The line through small batches ends at 853 samples (torch 2.15: 1,024); those from the threshold on take less."""

    def opened() -> FakeTensorProbe:
        trained = replace(training_from_config(CNN)[0], build_model=lambda: Thriftier(small))
        return probe(overhead_bytes=MIB, capacity_bytes=104 * MIB, training=trained)

    simulated, own = opened(), opened()
    found = find_largest(
        simulated.measure, capacity_bytes=simulated.capacity_bytes, multiple_of=1, confirm=simulated.measure_afresh
    )
    assert found.certificate is not None
    assert (found.certificate.largest_ok, found.certificate.smallest_failed) == (
        found.max_batch_size,
        found.certificate.largest_ok + 1,
    )
    assert own.measure_afresh(found.certificate.largest_ok).fits
    assert own.measure_afresh(found.certificate.largest_ok + 1).outcome is Outcome.OUT_OF_MEMORY
    assert (found.max_batch_size > 1500) is (small < 1500)


@pytest.mark.torchvision
def test_what_the_model_raises_is_an_outcome_with_its_traceback() -> None:
    config = load_config("resnet18_cifar10")
    measured = probe(config).measure(1)  # batch norm over a single value
    assert measured.outcome is Outcome.ERROR
    assert "more than 1 value per channel" in measured.message
    assert "batch_norm" in measured.traceback
