"""The changes that can be tried on a training, and what speaks against each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Device


class Cost(IntEnum):
    """What a change costs, from nothing to another training; of sets that do the same, the cheapest sum is taken."""

    NOTHING = 1
    ARITHMETIC = 3
    """Numbers are rounded earlier."""
    FREEDOM = 4
    """Something else cannot be done any more."""
    COMPUTE = 6
    SPLIT = 20
    """The batch is made of smaller ones."""
    TRAINING = 30
    """Another optimizer, or whatever the user asks to be tried."""


@dataclass(frozen=True)
class MemoryOptimization:
    """One change."""

    name: str
    sets: tuple[str, ...]
    """Overrides of the config."""
    price: Cost
    words: str = ""
    """The price, in words."""

    @property
    def keys(self) -> frozenset[str]:
        """The keys that it sets."""
        return frozenset(text.partition("=")[0].strip() for text in self.sets)


def levers_for(config: Config, device: Device, own: Sequence[str] = ()) -> list[MemoryOptimization]:
    """Return the changes that make sense for a config and are not made already.

    Args:
        config: the training as it is.
        device: what it runs on, or is predicted for.
        own: overrides that the user wants tried as well.
    """
    found = [*_free(config, device), *_precision(config, device)]
    if config.mode == "train":
        found += [*_steps(config), *_optimizer(config, device)]
    found += [MemoryOptimization(text, (text,), Cost.TRAINING, "as you ask") for text in own]
    return found


def _is_gpu(device: Device) -> bool:
    return device.is_gpu


def _free(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    optimizer = config.optimizer
    if (
        config.mode == "train"
        and type(optimizer).takes(optimizer.kind, "fused")
        and not optimizer.fused
        and not config.train.optimizer_in_backward
    ):
        sets = ("optimizer.foreach=null", "optimizer.fused=true")
        yield MemoryOptimization("fused optimizer", sets, Cost.NOTHING)
    if _is_gpu(device) and not config.device.expandable_segments:
        yield MemoryOptimization("expandable segments", ("device.expandable_segments=true",), Cost.NOTHING)
    if not config.train.channels_last:
        yield MemoryOptimization("channels last", ("train.channels_last=true",), Cost.NOTHING)


def _precision(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    if config.precision not in ("fp32", "tf32") or config.step is not None:
        return
    capability = _capability(device)
    if device.type == "cpu" or capability is None or capability >= (8, 0):
        yield MemoryOptimization(
            "autocast to bfloat16", ("precision=amp-bf16",), Cost.ARITHMETIC, "rounds to 8 bits of mantissa"
        )
    if _is_gpu(device) and (capability is None or capability >= (7, 0)):
        costs = "needs loss scaling" if config.mode == "train" else "rounds to 11 bits of mantissa"
        yield MemoryOptimization("autocast to float16", ("precision=amp-fp16",), Cost.ARITHMETIC, costs)


def _capability(device: Device) -> tuple[int, int] | None:
    try:
        return find_gpu(device.name).compute_capability
    except ConfigError:
        return None


def _steps(config: Config) -> Iterable[MemoryOptimization]:
    train = config.train
    if train.activation_checkpointing == "none":
        recompute = "computes activations twice"
        yield MemoryOptimization(
            "checkpoint every 2nd block", ("train.activation_checkpointing=every-2",), Cost.COMPUTE, recompute
        )
        yield MemoryOptimization(
            "checkpoint every block", ("train.activation_checkpointing=full",), Cost.COMPUTE, recompute
        )
    if train.gradient_accumulation_steps > 1 or config.step is not None or config.train.optimizer_in_backward:
        return
    if train.clip_grad_norm is None and train.zero_grad_set_to_none and config.precision != "amp-fp16":
        costs = "no clipping, no accumulation"
        yield MemoryOptimization("optimizer in backward", ("train.optimizer_in_backward=true",), Cost.FREEDOM, costs)
    apart = "any batch norm sees each piece by itself"
    yield MemoryOptimization("accumulate 2 batches", ("train.gradient_accumulation_steps=2",), Cost.SPLIT, apart)


def _optimizer(config: Config, device: Device) -> Iterable[MemoryOptimization]:
    optimizer, other = config.optimizer, "another training: tune it anew"
    if optimizer.family == "adam":
        yield MemoryOptimization(
            "SGD with momentum", ("optimizer.name=sgd", "optimizer.momentum=0.9"), Cost.TRAINING, other
        )
        if _is_gpu(device) and not device.is_simulated:
            yield MemoryOptimization(
                "8-bit AdamW", ("optimizer.name=adamw8bit",), Cost.TRAINING, "state in 8 bits; bitsandbytes"
            )
    elif optimizer.momentum > 0:
        yield MemoryOptimization(
            "no momentum", ("optimizer.momentum=0", "optimizer.nesterov=false"), Cost.TRAINING, other
        )
