"""The changes that can be tried on a training, and what speaks against each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.memory.gpus import find_gpu
from vram_cli.results import Device

_ADAM_LIKE = ("adam", "adamw")


class Price(IntEnum):
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
class Lever:
    """One change."""

    name: str
    sets: tuple[str, ...]
    """Overrides of the config."""
    price: Price
    words: str = ""
    """The price, in words."""

    @property
    def keys(self) -> frozenset[str]:
        """The keys that it sets."""
        return frozenset(text.partition("=")[0].strip() for text in self.sets)


def levers_for(config: Config, device: Device, own: Sequence[str] = ()) -> list[Lever]:
    """Return the changes that make sense for a config and are not made already.

    Args:
        config: the training as it is.
        device: what it runs on, or is predicted for.
        own: overrides that the user wants tried as well.
    """
    found = [*_free(config, device), *_precision(config, device), *_steps(config), *_optimizer(config, device)]
    found += [Lever(text, (text,), Price.TRAINING, "as you ask") for text in own]
    return found


def _is_gpu(device: Device) -> bool:
    return device.type.startswith("cuda")


def _free(config: Config, device: Device) -> Iterable[Lever]:
    optimizer = config.optimizer
    if type(optimizer).takes(optimizer.name, "fused") and not optimizer.fused and not optimizer.in_backward:
        sets = ("optimizer.foreach=null", "optimizer.fused=true")
        yield Lever("fused optimizer", sets, Price.NOTHING)
    if _is_gpu(device) and not config.device.expandable_segments:
        yield Lever("expandable segments", ("device.expandable_segments=true",), Price.NOTHING)
    if not config.train.channels_last:
        yield Lever("channels last", ("train.channels_last=true",), Price.NOTHING)


def _precision(config: Config, device: Device) -> Iterable[Lever]:
    if config.precision not in ("fp32", "tf32") or config.step is not None:
        return
    capability = _capability(device)
    if device.type == "cpu" or capability is None or capability >= (8, 0):
        yield Lever("autocast to bfloat16", ("precision=amp-bf16",), Price.ARITHMETIC, "rounds to 8 bits of mantissa")
    if _is_gpu(device) and (capability is None or capability >= (7, 0)):
        yield Lever("autocast to float16", ("precision=amp-fp16",), Price.ARITHMETIC, "needs loss scaling")


def _capability(device: Device) -> tuple[int, int] | None:
    try:
        return find_gpu(device.name).compute_capability
    except ConfigError:
        return None


def _steps(config: Config) -> Iterable[Lever]:
    train = config.train
    if train.checkpointing == "none":
        recompute = "computes activations twice"
        yield Lever("checkpoint every 2nd block", ("train.checkpointing=every-2",), Price.COMPUTE, recompute)
        yield Lever("checkpoint every block", ("train.checkpointing=full",), Price.COMPUTE, recompute)
    if train.accumulate > 1 or config.step is not None or config.optimizer.in_backward:
        return
    if train.clip_grad_norm is None and train.zero_grad == "none" and config.precision != "amp-fp16":
        costs = "no clipping, no accumulation"
        yield Lever("optimizer in backward", ("optimizer.in_backward=true",), Price.FREEDOM, costs)
    apart = "any batch norm sees each piece by itself"
    yield Lever("accumulate 2 batches", ("train.accumulate=2",), Price.SPLIT, apart)


def _optimizer(config: Config, device: Device) -> Iterable[Lever]:
    optimizer, other = config.optimizer, "another training: tune it anew"
    if optimizer.name in _ADAM_LIKE:
        yield Lever("SGD with momentum", ("optimizer.name=sgd", "optimizer.momentum=0.9"), Price.TRAINING, other)
        if _is_gpu(device) and device.kind == "real":
            yield Lever("8-bit AdamW", ("optimizer.name=adamw8bit",), Price.TRAINING, "state in 8 bits; bitsandbytes")
    elif optimizer.momentum > 0:
        yield Lever("no momentum", ("optimizer.momentum=0", "optimizer.nesterov=false"), Price.TRAINING, other)
