"""The changes that `vram advise` tries, and the cost of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Device


class Cost(IntEnum):
    """The cost of a change; of the combinations that fit, the one with the smallest sum is preferred."""

    NOTHING = 1
    PRECISION = 3
    """Lower numerical precision."""
    RESTRICTION = 4
    """Rules out another option."""
    COMPUTE = 6
    """More computation per step."""
    ACCUMULATION = 20
    """More micro-batches per optimizer step."""
    TUNING = 30
    """Another optimizer, or a change that the user requests: it may need other hyperparameters."""


@dataclass(frozen=True)
class MemoryOptimization:
    """A change of the config that may save memory."""

    name: str
    overrides: tuple[str, ...]
    cost: Cost
    cost_text: str = ""
    """The cost in words."""

    @property
    def keys(self) -> frozenset[str]:
        """The config keys that it sets."""
        return frozenset(override.partition("=")[0].strip() for override in self.overrides)


def applicable_optimizations(config: Config, device: Device, also_try: Sequence[str] = ()) -> list[MemoryOptimization]:
    """Return the changes that suit a config and that it does not have yet; for a script, those that it leaves open.

    Args:
        config: the training without changes.
        device: the device that it runs on, or is predicted for.
        also_try: overrides that the user requests.
    """
    optimizations = [*_allocator(config, device)] if config.script is not None else [*_of_config(config, device)]
    optimizations += [
        MemoryOptimization(override, (override,), Cost.TUNING, "effect on training not assessed")
        for override in also_try
    ]
    return optimizations


def _of_config(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    yield from _without_cost(config, device)
    yield from _precision(config, device)
    if config.mode == "train":
        yield from _training_step(config)
        yield from _optimizer(config, device)


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
    ):
        overrides = ("optimizer.foreach=null", "optimizer.fused=true")
        yield MemoryOptimization("fused optimizer", overrides, Cost.NOTHING)
    if has_foreach_default(config, device):
        yield MemoryOptimization(
            "optimizer without foreach", ("optimizer.foreach=false",), Cost.COMPUTE, "slower steps"
        )
    yield from _allocator(config, device)
    if not config.train.channels_last:
        yield MemoryOptimization("channels last", ("train.channels_last=true",), Cost.NOTHING)


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
    capability = _compute_capability(device)
    if device.type == "cpu" or capability is None or capability >= (8, 0):
        yield MemoryOptimization(
            "autocast to bfloat16", ("precision=amp-bf16",), Cost.PRECISION, "rounds to 8 significant bits"
        )
    if device.is_gpu and (capability is None or capability >= (7, 0)):
        cost_text = "needs loss scaling" if config.mode == "train" else "rounds to 11 significant bits"
        yield MemoryOptimization("autocast to float16", ("precision=amp-fp16",), Cost.PRECISION, cost_text)


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
    if train.clip_grad_norm is None and train.zero_grad_set_to_none and config.precision != "amp-fp16":
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
        yield MemoryOptimization(
            "SGD with momentum", ("optimizer.name=sgd", "optimizer.momentum=0.9"), Cost.TUNING, cost_text
        )
        if device.is_gpu and not device.is_simulated:
            yield MemoryOptimization(
                "8-bit AdamW", ("optimizer.name=adamw8bit",), Cost.TUNING, "8-bit state; needs bitsandbytes"
            )
    elif optimizer.momentum > 0:
        yield MemoryOptimization(
            "no momentum", ("optimizer.momentum=0", "optimizer.nesterov=false"), Cost.TUNING, cost_text
        )
