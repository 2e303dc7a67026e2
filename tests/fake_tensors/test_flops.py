"""Operations of a step, against sums worked out by hand and the figure that is published for ResNet-50."""

from __future__ import annotations

import pytest

from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe, Simulation, training_from_config
from vram_cli.hardware.gpus import find_gpu

RESNET50 = 4_089_184_256
"""Multiplications and additions of a forward pass at 224 x 224: the 4.09 GMAC of torchvision's table of weights."""
CONV1 = 64 * 112 * 112 * 3 * 7 * 7
"""Those of the first convolution, which passes no gradient on to the images."""


def flops(config_name: str, n: int, *overrides: str) -> int:
    simulation = Simulation(training_from_config(load_config(config_name, overrides))[0], find_gpu("a100-80gb"))
    simulation.trace(n)
    return simulation.flops[n]


@pytest.mark.parametrize("n", [1, 8, 1000])
def test_an_mlp_by_hand(n: int) -> None:
    """Each layer once forward and once for its weights; the second one for its input as well. Biases are added."""
    first, second = 784 * 128, 128 * 10
    assert flops("mlp_mnist.yaml", n) == 2 * n * (2 * first + 3 * second)


@pytest.mark.torchvision
def test_resnet50_takes_three_times_its_forward_pass() -> None:
    assert flops("resnet50_imagenet.yaml", 2) == 2 * 2 * (3 * RESNET50 - CONV1)


def test_autocast_changes_no_count_and_accumulation_doubles_it() -> None:
    plain = flops("cnn_cifar10.yaml", 4)
    assert plain > 0
    assert flops("cnn_cifar10.yaml", 4, "precision=amp-bf16") == plain
    assert flops("cnn_cifar10.yaml", 4, "train.gradient_accumulation_steps=2") == 2 * plain


@pytest.mark.torchvision
def test_checkpointing_every_block_runs_the_blocks_forward_once_more() -> None:
    """All but the first convolution and the last layer are in blocks."""
    plain, full = (
        flops("resnet50_imagenet.yaml", 2, f"train.activation_checkpointing={how}") for how in ("none", "full")
    )
    assert full - plain == 2 * 2 * (RESNET50 - CONV1 - 2048 * 1000)


def test_a_measurement_has_them_where_its_own_size_was_simulated() -> None:
    probe = FakeTensorProbe(load_config("mlp_mnist.yaml"), find_gpu("t4"))
    a_sample = 2 * (2 * 784 * 128 + 3 * 128 * 10)
    assert [probe.measure(n).flops for n in (2, 9)] == [2 * a_sample, 9 * a_sample]
    assert probe.measure(100).flops is None  # read off the line through those two
    assert probe.measure_afresh(100).flops == 100 * a_sample


def test_the_same_simulation_runs_again_as_the_first_time() -> None:
    """Hooks that the optimizer of an earlier run has put on the parameters are gone."""
    config = load_config("mlp_mnist.yaml", ["train.optimizer_in_backward=true"])
    again = Simulation(training_from_config(config)[0], find_gpu("t4"))
    first = again.trace(16)
    again.trace(32)
    assert again.trace(16) == first
    assert Simulation(training_from_config(config)[0], find_gpu("t4")).trace(32) == again.trace(32)
    own = FakeTensorProbe(config, find_gpu("t4"))
    line = [own.measure(n).peaks for n in (2, 9, 300)]
    fresh = [FakeTensorProbe(config, find_gpu("t4")).measure(n).peaks for n in (2, 9, 300)]
    assert line == fresh
