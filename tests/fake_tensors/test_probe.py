"""The predicting probe returns the same records as real probes."""

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


def test_device_and_capacity_of_the_gpu() -> None:
    gpu = find_gpu("t4")
    with probe() as simulated:
        assert simulated.device.kind == "simulated"
        assert simulated.device.name == gpu.product
        assert simulated.device.capacity_bytes == gpu.memory_bytes
        assert simulated.capacity_bytes == gpu.memory_bytes - gpu.context_bytes
        assert simulated.data.tensors[0].shape == (3, 32, 32)


def test_overhead_and_capacity_arguments() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    assert (simulated.device.capacity_bytes, simulated.capacity_bytes) == (GIB, 924 * MIB)
    with pytest.raises(ConfigError, match="leaves nothing"):
        probe(overhead_bytes=GIB, capacity_bytes=GIB)


def test_breakdown_adds_up_to_the_gpu() -> None:
    measured = probe().measure(128, explain=True)
    assert measured.fits
    assert measured.breakdown is not None  # its constructor checks that it adds up
    model = build_model(CNN)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert measured.breakdown.bytes_of(Category.PARAMETERS) == weights
    assert measured.breakdown.bytes_of(Category.BATCH_DATA) == 128 * (3 * 32 * 32 * 4 + 8)
    assert [peak.phase for peak in measured.peaks] == [phase for phase in Phase if phase is not Phase.VALIDATION]
    assert measured.steps >= CNN.search.steps


def test_largest_size_and_the_message_of_the_next() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    result = find_largest(simulated.measure, capacity_bytes=simulated.capacity_bytes, confirm=simulated.measure)
    assert result.max_batch_size is not None
    assert result.certificate is not None
    failed = simulated.measure(result.max_batch_size + 1)
    assert failed.outcome is Outcome.OUT_OF_MEMORY
    assert failed.phase in {Phase.FORWARD, Phase.BACKWARD}
    assert failed.requested_bytes is not None
    assert failed.held_bytes is not None
    needed = failed.held_bytes + failed.requested_bytes  # the rest of the memory is fragmented
    assert failed.held_bytes <= simulated.capacity_bytes < 1.1 * needed
    assert failed.message.startswith("fails in ")
    assert "(aten." in failed.message
    assert "requesting" in failed.message
    assert result.certificate.message == failed.message
    assert all(trial.peak_reserved_bytes <= simulated.capacity_bytes for trial in result.trials)


def test_line_through_two_sizes_ends_at_the_largest() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    assert simulated.measure(2).expected_largest is None
    expected = simulated.measure(9).expected_largest
    assert expected is not None
    assert simulated.measure(expected).fits
    assert simulated.measure(expected + 1).outcome is Outcome.OUT_OF_MEMORY


def test_search_simulates_few_sizes_and_each_of_them() -> None:
    simulated = probe(overhead_bytes=100 * MIB, capacity_bytes=GIB)
    result = find_largest(simulated.measure, capacity_bytes=simulated.capacity_bytes, multiple_of=None)
    assert len(result.trials) <= 4
    assert sorted(simulated._traces) == sorted(trial.batch_size for trial in result.trials)


class LeanerWithLargeBatches(nn.Module):
    """Saves five tensors per sample of a small batch, and one per sample of a large one."""

    def __init__(self, small: int) -> None:
        super().__init__()
        self.small, self.head = small, nn.Linear(3072, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = images.flatten(1)
        for _ in range(4 if len(hidden) < self.small else 0):
            hidden = (hidden * self.head.weight[0]).sigmoid()
        return self.head(hidden)


@pytest.mark.parametrize("small", [2000, 700, 100])
def test_wrong_line_does_not_fail_a_size(small: int) -> None:
    """The line of small batches ends at 853 samples (PyTorch 2.15: 1,024), but larger batches take less."""

    def lean_probe() -> FakeTensorProbe:
        training = replace(training_from_config(CNN)[0], build_model=lambda: LeanerWithLargeBatches(small))
        return probe(overhead_bytes=MIB, capacity_bytes=104 * MIB, training=training)

    simulated, other = lean_probe(), lean_probe()
    result = find_largest(
        simulated.measure, capacity_bytes=simulated.capacity_bytes, multiple_of=1, confirm=simulated.measure
    )
    assert result.certificate is not None
    assert (result.certificate.largest_ok, result.certificate.smallest_failed) == (
        result.max_batch_size,
        result.certificate.largest_ok + 1,
    )
    assert other.measure(result.certificate.largest_ok).fits
    assert other.measure(result.certificate.largest_ok + 1).outcome is Outcome.OUT_OF_MEMORY
    assert (result.max_batch_size > 1500) is (small < 1500)


@pytest.mark.torchvision
def test_error_of_the_model_is_an_outcome() -> None:
    config = load_config("resnet18_cifar10")
    measured = probe(config).measure(1)  # batch norm over a single value
    assert measured.outcome is Outcome.ERROR
    assert "more than 1 value per channel" in measured.message
    assert "batch_norm" in measured.traceback
