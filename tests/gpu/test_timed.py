"""Steps timed for the clock alone, on a CUDA (or ROCm) device. Run with `make gpu-test`."""

from __future__ import annotations

import pytest

from vram_cli.commands.find_batch import find_batch
from vram_cli.config import load_config
from vram_cli.records import Outcome

pytestmark = pytest.mark.silicon("steps must take their time")


def test_a_gpu_is_waited_for_and_larger_batches_make_better_use_of_it() -> None:
    wanted = ["device.name=cuda", "data.source=synthetic", "search.max_batch_size=256", "search.objective=throughput"]
    result = find_batch(load_config("resnet18_cifar10.yaml", wanted))
    assert result.throughput is not None
    assert [pace.batch_size for pace in result.throughput.points][-1] == result.max_batch_size == 256
    assert all(trial.outcome is not Outcome.OUT_OF_MEMORY for trial in result.trials)
    smallest, largest = result.throughput.points[0], result.throughput.points[-1]
    assert largest.samples_per_second > smallest.samples_per_second
    # Were the kernels not waited for, a step would take no longer with a hundred times the work.
    assert largest.step_seconds > 1.5 * smallest.step_seconds
