"""The changes that suit a config and a GPU."""

from __future__ import annotations

import pytest

from tests.commands.advise.formula_probe import training
from vram_cli.commands.advise.combinations import is_compatible
from vram_cli.commands.advise.memory_optimization import Cost, MemoryOptimization
from vram_cli.commands.advise.optimizations import applicable_optimizations
from vram_cli.config import Config, with_overrides
from vram_cli.records import Device


def gpu(kind: str = "real", name: str = "NVIDIA A100-SXM4-80GB", device: str = "cuda:0") -> Device:
    return Device(kind=kind, name=name, type=device, capacity_bytes=1)


def names(config: Config, device: Device | None = None) -> set[str]:
    return {optimization.name for optimization in applicable_optimizations(config, device or gpu())}


ALL = {
    "fused optimizer",
    "optimizer without foreach",
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


def test_adam_on_a_gpu() -> None:
    assert names(training()) == ALL


@pytest.mark.parametrize(
    ("override", "excluded"),
    [
        ("optimizer.fused=true", {"fused optimizer", "optimizer without foreach"}),
        ("optimizer.foreach=false", {"optimizer without foreach"}),
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
        (
            "train.optimizer_in_backward=true",
            {"fused optimizer", "optimizer without foreach", "optimizer in backward", "accumulate 2 batches"},
        ),
        ("optimizer.name=adamw", set()),
        ("optimizer.factory=torch.optim:AdamW", {"fused optimizer", "optimizer without foreach"}),
        ("mode=eval", ALL - {"expandable segments", "channels last", "autocast to bfloat16", "autocast to float16"}),
        ("precision=tf32", set()),
    ],
)
def test_excluded_by_config(override: str, excluded: set[str]) -> None:
    assert names(training(override)) == ALL - excluded


def test_excluded_by_custom_step() -> None:
    config = training("step=steps:step")
    excluded = {"autocast to bfloat16", "autocast to float16", "optimizer in backward", "accumulate 2 batches"}
    assert names(config) == ALL - excluded


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tesla P100-PCIE-16GB", set()),  # compute capability 6.0: no tensor cores
        ("Tesla T4", {"autocast to float16"}),  # 7.5
        ("Tesla V100-SXM2-16GB", {"autocast to float16"}),  # 7.0
        ("NVIDIA GeForce RTX 3090", {"autocast to bfloat16", "autocast to float16"}),  # 8.6
        ("AMD Instinct MI210", {"autocast to bfloat16", "autocast to float16"}),  # has no compute capability
        ("an unknown GPU", {"autocast to bfloat16", "autocast to float16"}),
    ],
)
def test_autocast_by_compute_capability(name: str, expected: set[str]) -> None:
    assert {change for change in names(training(), gpu(name=name)) if change.startswith("autocast")} == expected


def test_excluded_on_cpu() -> None:
    excluded = {"expandable segments", "autocast to float16", "8-bit AdamW", "optimizer without foreach"}
    cpu = gpu(name="CPU (2 cores)", device="cpu")
    assert names(training(), cpu) == ALL - excluded
    assert "optimizer without foreach" in names(training("optimizer.foreach=true"), cpu)


def test_excluded_in_predictions() -> None:
    assert names(training(), gpu("simulated")) == ALL - {"8-bit AdamW"}


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
def test_optimizer_changes(overrides: list[str], expected: set[str]) -> None:
    changes = {"fused optimizer", "no momentum", "SGD with momentum", "8-bit AdamW"}
    assert names(training(*overrides)) & changes == expected


def test_also_try_comes_last() -> None:
    *_, last = applicable_optimizations(training(), gpu(), ["train.ema=true"])
    assert last == MemoryOptimization(
        "train.ema=true", ("train.ema=true",), Cost.TUNING, "effect on training not assessed"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("optimizer", ["adamw", "{name: sgd, momentum: 0.9, nesterov: true, foreach: true}"])
def test_every_change_is_a_valid_config(device: str, optimizer: str) -> None:
    config = training("optimizer.name=adamw" if optimizer == "adamw" else f"optimizer={optimizer}")
    for optimization in applicable_optimizations(config, gpu(device=device)):
        assert with_overrides(config, optimization.overrides) != config, optimization.name


# Several ranks

FSDP2 = "parallel={strategy: fsdp2, ranks: 8}"
OF_RANKS = {
    "gradients as views of buckets",
    "ZeroRedundancyOptimizer",
    "FSDP2 instead of DDP",
    "reshard after forward",
    "shard every block",
    "shard over all ranks",
    "gather in bfloat16",
    "4 ranks",
    "16 ranks",
}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], set()),
        (["parallel.ranks=8"], {"gradients as views of buckets", "ZeroRedundancyOptimizer", "FSDP2 instead of DDP"}),
        (["parallel.ranks=8", "optimizer={name: sgd}"], {"gradients as views of buckets", "FSDP2 instead of DDP"}),
        (
            ["parallel={ranks: 8, gradient_as_bucket_view: true, zero_redundancy_optimizer: true, bucket_cap_mb: 5}"],
            {"FSDP2 instead of DDP"},
        ),
        (["parallel.ranks=8", "train.ema=true"], {"gradients as views of buckets", "ZeroRedundancyOptimizer"}),
        (
            ["parallel.ranks=8", "train.channels_last=true"],
            {"gradients as views of buckets", "ZeroRedundancyOptimizer"},
        ),
        (["parallel.ranks=8", "mode=eval"], {"FSDP2 instead of DDP"}),
        ([FSDP2], {"reshard after forward", "gather in bfloat16"}),
        ([FSDP2, "parallel.reshard_after_forward=true", "precision=bf16"], set()),
        ([FSDP2, "parallel.modules=none", "parallel.replicas=2"], OF_RANKS - {
            "gradients as views of buckets", "ZeroRedundancyOptimizer", "FSDP2 instead of DDP", "4 ranks", "16 ranks",
        }),
    ],
)  # fmt: skip
def test_changes_of_ranks(overrides: list[str], expected: set[str]) -> None:
    config = training(*overrides)
    more = {"16 ranks"} if config.parallel else set()
    assert names(config, gpu("simulated")) & OF_RANKS == expected | more
    assert names(config) & OF_RANKS == expected, "this machine may have no more GPUs"
    for optimization in applicable_optimizations(config, gpu("simulated")):
        assert with_overrides(config, optimization.overrides) != config, optimization.name


def test_changes_that_ranks_refuse_are_left_out() -> None:
    assert "optimizer in backward" not in names(training("parallel.ranks=8"))
    assert "channels last" in names(training("parallel.ranks=8"))
    assert not {"optimizer in backward", "channels last", "8-bit AdamW"} & names(training(FSDP2))


def test_sharded_parameters_are_fused_in_adam_alone() -> None:
    assert "fused optimizer" in names(training(FSDP2))
    assert "fused optimizer" not in names(training(FSDP2, "optimizer={name: sgd, momentum: 0.9}"))
    fused = training("parallel.ranks=8", "optimizer={name: sgd, momentum: 0.9, fused: true}")
    changes = {change.name: change for change in applicable_optimizations(fused, gpu())}
    assert changes["FSDP2 instead of DDP"].overrides == ("parallel.strategy=fsdp2", "optimizer.fused=null")
    changes = {
        change.name: change for change in applicable_optimizations(training(FSDP2, "optimizer.fused=true"), gpu())
    }
    assert "optimizer.fused=null" in changes["SGD with momentum"].overrides


def test_another_strategy_is_combined_with_no_other_key_of_ranks() -> None:
    changes = {
        change.name: change for change in applicable_optimizations(training("parallel.ranks=8"), gpu("simulated"))
    }
    fsdp2 = changes["FSDP2 instead of DDP"]
    assert not is_compatible(fsdp2, [changes["gradients as views of buckets"]])
    assert not is_compatible(fsdp2, [changes["16 ranks"]])
    assert is_compatible(fsdp2, [changes["checkpoint every block"]])


def test_channels_last_needs_more_than_sequences() -> None:
    tokens = "data={inputs: {x: {shape: [512], dtype: int64, high: 9}}}"
    images = "data={inputs: {x: {shape: [3, 32, 32]}}}"
    model = "model={factory: 'net:Net'}"
    assert "channels last" not in names(training(model, tokens))
    assert "channels last" in names(training(model, images))
