"""Which changes are offered for which training, device and card."""

from __future__ import annotations

import pytest

from tests.commands.advise.worlds import training
from vram_cli.commands.advise.optimizations import Cost, MemoryOptimization, levers_for
from vram_cli.config import Config, with_overrides
from vram_cli.records import Device


def on(kind: str = "real", name: str = "NVIDIA A100-SXM4-80GB", device: str = "cuda:0") -> Device:
    return Device(kind=kind, name=name, type=device, capacity_bytes=1)


def offered(config: Config, device: Device | None = None) -> set[str]:
    return {lever.name for lever in levers_for(config, device or on())}


ALL = {
    "fused optimizer",
    "expandable segments",
    "channels last",
    "autocast to bfloat16",
    "autocast to float16",
    "checkpoint every 2nd block",
    "checkpoint every block",
    "optimizer in backward",
    "accumulate 2 batches",
    "SGD with momentum",
    "8-bit AdamW",
}


def test_a_plain_training_with_adam_on_a_gpu_is_offered_everything() -> None:
    assert offered(training()) == ALL


@pytest.mark.parametrize(
    ("override", "gone"),
    [
        ("optimizer.fused=true", {"fused optimizer"}),
        ("device.expandable_segments=true", {"expandable segments"}),
        ("train.channels_last=true", {"channels last"}),
        ("train.activation_checkpointing=full", {"checkpoint every 2nd block", "checkpoint every block"}),
        ("train.activation_checkpointing=layer3.*", {"checkpoint every 2nd block", "checkpoint every block"}),
        ("precision=amp-bf16", {"autocast to bfloat16", "autocast to float16"}),
        ("precision=bf16", {"autocast to bfloat16", "autocast to float16"}),
        ("precision=amp-fp16", {"autocast to bfloat16", "autocast to float16", "optimizer in backward"}),
        ("train.gradient_accumulation_steps=4", {"accumulate 2 batches", "optimizer in backward"}),
        ("train.clip_grad_norm=1", {"optimizer in backward"}),
        ("train.zero_grad_set_to_none=false", {"optimizer in backward"}),
        ("train.optimizer_in_backward=true", {"fused optimizer", "optimizer in backward", "accumulate 2 batches"}),
        ("optimizer.name=adamw", set()),
        ("optimizer.factory=torch.optim:AdamW", {"fused optimizer"}),
        ("mode=eval", ALL - {"expandable segments", "channels last", "autocast to bfloat16", "autocast to float16"}),
        ("precision=tf32", set()),
    ],
)
def test_what_is_made_already_or_goes_not_with_it_is_not_offered(override: str, gone: set[str]) -> None:
    assert offered(training(override)) == ALL - gone


def test_own_steps_do_the_rest_themselves() -> None:
    own = training("step=steps:step")
    gone = {"autocast to bfloat16", "autocast to float16", "optimizer in backward", "accumulate 2 batches"}
    assert offered(own) == ALL - gone


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tesla P100-PCIE-16GB", set()),  # compute capability 6.0: no tensor cores
        ("Tesla T4", {"autocast to float16"}),  # 7.5
        ("Tesla V100-SXM2-16GB", {"autocast to float16"}),  # 7.0
        ("NVIDIA GeForce RTX 3090", {"autocast to bfloat16", "autocast to float16"}),  # 8.6
        ("AMD Instinct MI210", {"autocast to bfloat16", "autocast to float16"}),  # has no compute capability
        ("a card of next year", {"autocast to bfloat16", "autocast to float16"}),
    ],
)
def test_autocast_follows_the_card(name: str, expected: set[str]) -> None:
    assert {found for found in offered(training(), on(name=name)) if found.startswith("autocast")} == expected


def test_a_cpu_has_no_allocator_to_set_and_autocast_to_bfloat16_only() -> None:
    gone = {"expandable segments", "autocast to float16", "8-bit AdamW"}
    assert offered(training(), on(name="CPU (2 cores)", device="cpu")) == ALL - gone


def test_a_prediction_knows_nothing_of_8_bits() -> None:
    assert offered(training(), on("simulated")) == ALL - {"8-bit AdamW"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer={name: sgd, momentum: 0.9}"], {"no momentum", "fused optimizer"}),
        (["optimizer={name: sgd}"], {"fused optimizer"}),
        (["optimizer={name: rmsprop, momentum: 0.9}"], {"no momentum"}),  # torch has no fused RMSprop
        (["optimizer={name: adagrad}"], {"fused optimizer"}),
        (["optimizer={name: adamw8bit}"], set()),
    ],
)
def test_the_optimizers_own_changes(overrides: list[str], expected: set[str]) -> None:
    changes = {"fused optimizer", "no momentum", "SGD with momentum", "8-bit AdamW"}
    assert offered(training(*overrides)) & changes == expected


def test_what_the_user_asks_comes_last_and_costs_a_training() -> None:
    *_, last = levers_for(training(), on(), ["train.ema=true"])
    assert last == MemoryOptimization("train.ema=true", ("train.ema=true",), Cost.TRAINING, "as you ask")


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("optimizer", ["adamw", "{name: sgd, momentum: 0.9, nesterov: true, foreach: true}"])
def test_every_change_makes_a_config_and_changes_it(device: str, optimizer: str) -> None:
    config = training("optimizer.name=adamw" if optimizer == "adamw" else f"optimizer={optimizer}")
    for lever in levers_for(config, on(device=device)):
        assert with_overrides(config, lever.sets) != config, lever.name
