"""Which changes are offered for which training, device and card."""

from __future__ import annotations

import pytest

from tests.advising.worlds import training
from vram_cli.advising.levers import Lever, Price, levers_for
from vram_cli.config import Config
from vram_cli.memory.gpus import find_gpu


def offered(config: Config, kind: str = "cuda", card: str | None = "a100-80gb", own: tuple[str, ...] = ()) -> set[str]:
    return {lever.name for lever in levers_for(config, kind, find_gpu(card) if card else None, own)}


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
        ("train.checkpointing=full", {"checkpoint every 2nd block", "checkpoint every block"}),
        ("train.checkpointing=layer3.*", {"checkpoint every 2nd block", "checkpoint every block"}),
        ("precision=amp-bf16", {"autocast to bfloat16", "autocast to float16"}),
        ("precision=bf16", {"autocast to bfloat16", "autocast to float16"}),
        ("precision=amp-fp16", {"autocast to bfloat16", "autocast to float16", "optimizer in backward"}),
        ("train.accumulate=4", {"accumulate 2 batches", "optimizer in backward"}),
        ("train.clip_grad_norm=1", {"optimizer in backward"}),
        ("train.zero_grad=zero", {"optimizer in backward"}),
        ("optimizer.in_backward=true", {"fused optimizer", "optimizer in backward", "accumulate 2 batches"}),
        ("device.gpu=t4", {"8-bit AdamW"}),
        ("optimizer.name=adamw", set()),
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
    ("card", "expected"),
    [
        ("p100", set()),  # 6.0: no tensor cores
        ("t4", {"autocast to float16"}),  # 7.5
        ("v100-16gb", {"autocast to float16"}),  # 7.0
        ("a100-80gb", {"autocast to bfloat16", "autocast to float16"}),  # 8.0
        ("mi250", {"autocast to bfloat16", "autocast to float16"}),  # has no compute capability
        (None, {"autocast to bfloat16", "autocast to float16"}),
    ],
)
def test_autocast_follows_the_card(card: str | None, expected: set[str]) -> None:
    assert {name for name in offered(training(), card=card) if name.startswith("autocast")} == expected


def test_a_cpu_has_no_allocator_to_set_and_autocast_to_bfloat16_only() -> None:
    gone = {"expandable segments", "autocast to float16", "8-bit AdamW"}
    assert offered(training(), "cpu", None) == ALL - gone


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
    *_, last = levers_for(training(), "cuda", find_gpu("a100-80gb"), ["train.ema=true"])
    assert last == Lever("train.ema=true", ("train.ema=true",), Price.TRAINING, "as you ask")


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("optimizer", ["adamw", "{name: sgd, momentum: 0.9, nesterov: true, foreach: true}"])
def test_every_change_makes_a_config_and_changes_it(kind: str, optimizer: str) -> None:
    config = training("optimizer.name=adamw" if optimizer == "adamw" else f"optimizer={optimizer}")
    for lever in levers_for(config, kind, None):
        assert config.changed(lever.sets) != config, lever.name
