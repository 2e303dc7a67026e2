"""Floating-point operations of a step, against sums by hand and the published figure for ResNet-50."""

from __future__ import annotations

import pytest

from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe, Simulation, training_from_config
from vram_cli.hardware.gpus import find_gpu

RESNET50 = 4_089_184_256
"""Multiply-adds of a forward pass at 224 x 224: the 4.09 GMAC in torchvision's table of weights."""
CONV1 = 64 * 112 * 112 * 3 * 7 * 7
"""Multiply-adds of the first convolution, which computes no gradient for the images."""


def flops(config_name: str, n: int, *overrides: str) -> int:
    simulation = Simulation(training_from_config(load_config(config_name, overrides))[0], find_gpu("a100-80gb"))
    simulation.trace(n)
    return simulation.flops[n]


@pytest.mark.parametrize("n", [1, 8, 1000])
def test_mlp_by_hand(n: int) -> None:
    """Each layer once forward and once for its weights, the second one for its input as well; biases count 0."""
    first, second = 784 * 128, 128 * 10
    assert flops("mlp_mnist.yaml", n) == 2 * n * (2 * first + 3 * second)


@pytest.mark.torchvision
def test_resnet50_step_is_three_forward_passes() -> None:
    assert flops("resnet50_imagenet.yaml", 2) == 2 * 2 * (3 * RESNET50 - CONV1)


def test_autocast_changes_nothing_and_accumulation_doubles() -> None:
    plain = flops("cnn_cifar10.yaml", 4)
    assert plain > 0
    assert flops("cnn_cifar10.yaml", 4, "precision=amp-bf16") == plain
    assert flops("cnn_cifar10.yaml", 4, "train.gradient_accumulation_steps=2") == 2 * plain


@pytest.mark.torchvision
def test_checkpointing_adds_a_forward_pass_of_the_blocks() -> None:
    """Only the first convolution and the last layer are outside blocks."""
    plain, full = (
        flops("resnet50_imagenet.yaml", 2, f"train.activation_checkpointing={blocks}") for blocks in ("none", "full")
    )
    assert full - plain == 2 * 2 * (RESNET50 - CONV1 - 2048 * 1000)


def test_every_predicted_size_has_flops() -> None:
    probe = FakeTensorProbe(load_config("mlp_mnist.yaml"), find_gpu("t4"))
    per_sample = 2 * (2 * 784 * 128 + 3 * 128 * 10)
    assert [probe.measure(n).flops for n in (2, 9, 100)] == [n * per_sample for n in (2, 9, 100)]


def test_simulation_can_be_repeated() -> None:
    """Hooks that the optimizer of an earlier run added to parameters are removed."""
    config = load_config("mlp_mnist.yaml", ["train.optimizer_in_backward=true"])
    simulation = Simulation(training_from_config(config)[0], find_gpu("t4"))
    first = simulation.trace(16)
    simulation.trace(32)
    assert simulation.trace(16) == first
    assert Simulation(training_from_config(config)[0], find_gpu("t4")).trace(32) == simulation.trace(32)
    probe = FakeTensorProbe(config, find_gpu("t4"))
    line = [probe.measure(n).peaks for n in (2, 9, 300)]
    fresh = [FakeTensorProbe(config, find_gpu("t4")).measure(n).peaks for n in (2, 9, 300)]
    assert line == fresh
