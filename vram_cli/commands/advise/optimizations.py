"""The changes that `vram advise` tries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vram_cli.commands.advise.memory_optimization import Cost, MemoryOptimization
from vram_cli.commands.advise.parallel_optimizations import can_fuse_sharded, parallel_optimizations
from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Device


def applicable_optimizations(config: Config, device: Device, also_try: Sequence[str] = ()) -> list[MemoryOptimization]:
    """Return the changes that suit a config and that it does not have yet; for a script, those that it leaves open.

    Args:
        config: the training without changes.
        device: the device that it runs on, or is predicted for.
        also_try: overrides that the user requests.
    """
    optimizations = [*_allocator(config, device)] if config.script is not None else [*_of_config(config, device)]
    return optimizations + [_requested(override) for override in also_try]


def _requested(override: str) -> MemoryOptimization:
    cost = Cost.GPUS if override.startswith("parallel.ranks=") else Cost.TUNING
    return MemoryOptimization(override, (override,), cost, "effect on training not assessed")


def _of_config(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    yield from _without_cost(config, device)
    yield from _precision(config, device)
    if config.mode == "train":
        yield from _training_step(config)
        yield from _optimizer(config, device)
    if config.parallel is not None:
        yield from parallel_optimizations(
            config, config.parallel, is_predicted=device.is_simulated, rounds_to_bfloat16=_has_bfloat16(device)
        )


def _allocator(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    if device.is_gpu and not config.device.expandable_segments:
        yield MemoryOptimization("expandable segments", ("device.expandable_segments=true",), Cost.NOTHING)


def _without_cost(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    optimizer = config.optimizer
    if (
        config.mode == "train"
        and type(optimizer).takes(optimizer.kind, "fused")
        and not optimizer.fused
        and not config.train.optimizer_in_backward
        and (can_fuse_sharded(config) or not _is_sharded(config))
    ):
        overrides = ("optimizer.foreach=null", "optimizer.fused=true")
        yield MemoryOptimization("fused optimizer", overrides, Cost.NOTHING)
    if has_foreach_default(config, device):
        yield MemoryOptimization(
            "optimizer without foreach", ("optimizer.foreach=false",), Cost.COMPUTE, "slower steps"
        )
    yield from _allocator(config, device)
    is_refused = _is_sharded(config)  # fully_shard takes contiguous parameters only
    if not config.train.channels_last and not is_refused and _may_have_images(config):
        yield MemoryOptimization("channels last", ("train.channels_last=true",), Cost.NOTHING)


def _may_have_images(config: Config) -> bool:
    """Whether a sample may have more than one dimension; that of a language model is a sequence."""
    inputs = config.data.inputs
    return not inputs or any(len(spec.shape) > 1 for spec in inputs.values())


def has_foreach_default(config: Config, device: Device) -> bool:
    """Whether the optimizer updates all parameters at once, with temporary memory for a copy of them.

    That is PyTorch's default on a GPU (_default_to_fused_or_foreach in torch/optim/optimizer.py).
    """
    optimizer = config.optimizer
    return (
        config.mode == "train"
        and type(optimizer).takes(optimizer.kind, "foreach")
        and (device.is_gpu if optimizer.foreach is None else optimizer.foreach)
        and not optimizer.fused
        and not config.train.optimizer_in_backward
    )


def _precision(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    if config.precision not in ("fp32", "tf32") or config.step is not None:
        return
    if _has_bfloat16(device):
        yield MemoryOptimization(
            "autocast to bfloat16", ("precision=amp-bf16",), Cost.PRECISION, "rounds to 8 significant bits"
        )
    capability = _compute_capability(device)
    if device.is_gpu and (capability is None or capability >= (7, 0)):
        cost_text = "needs loss scaling" if config.mode == "train" else "rounds to 11 significant bits"
        yield MemoryOptimization("autocast to float16", ("precision=amp-fp16",), Cost.PRECISION, cost_text)


def _has_bfloat16(device: Device) -> bool:
    capability = _compute_capability(device)
    return device.type == "cpu" or capability is None or capability >= (8, 0)


def _is_sharded(config: Config) -> bool:
    return config.parallel is not None and config.parallel.shards


def _compute_capability(device: Device) -> tuple[int, int] | None:
    try:
        return find_gpu(device.name).compute_capability
    except ConfigError:
        return None


def _training_step(config: Config) -> Iterable[MemoryOptimization]:
    train = config.train
    if train.activation_checkpointing == "none":
        cost_text = "recomputes activations"
        yield MemoryOptimization(
            "checkpoint every 2nd block", ("train.activation_checkpointing=every-2",), Cost.COMPUTE, cost_text
        )
        yield MemoryOptimization(
            "checkpoint every block", ("train.activation_checkpointing=full",), Cost.COMPUTE, cost_text
        )
    if train.gradient_accumulation_steps > 1 or config.step is not None or train.optimizer_in_backward:
        return
    keeps_gradients = train.clip_grad_norm is not None or not train.zero_grad_set_to_none or config.parallel is not None
    if not keeps_gradients and config.precision != "amp-fp16":
        cost_text = "no gradient clipping or accumulation"
        yield MemoryOptimization(
            "optimizer in backward", ("train.optimizer_in_backward=true",), Cost.RESTRICTION, cost_text
        )
    cost_text = "batch norm normalizes each micro-batch separately"
    yield MemoryOptimization(
        "accumulate 2 batches", ("train.gradient_accumulation_steps=2",), Cost.ACCUMULATION, cost_text
    )


def _optimizer(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    optimizer, cost_text = config.optimizer, "needs other hyperparameters"
    if optimizer.family == "adam":
        not_fused = ("optimizer.fused=null",) if _is_sharded(config) and optimizer.fused else ()
        overrides = ("optimizer.name=sgd", "optimizer.momentum=0.9", *not_fused)
        yield MemoryOptimization("SGD with momentum", overrides, Cost.TUNING, cost_text)
        if device.is_gpu and not device.is_simulated and not _is_sharded(config):
            yield MemoryOptimization(
                "8-bit AdamW", ("optimizer.name=adamw8bit",), Cost.TUNING, "8-bit state; needs bitsandbytes"
            )
    elif optimizer.momentum > 0:
        yield MemoryOptimization(
            "no momentum", ("optimizer.momentum=0", "optimizer.nesterov=false"), Cost.TUNING, cost_text
        )
