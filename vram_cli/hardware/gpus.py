"""The catalogue of GPUs: what each card has, as the driver tells it to programs, and where that is known from.

The figures are data, in `gpus.yaml`; nothing here asks a device.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, model_validator

from vram_cli.errors import ConfigError
from vram_cli.units import format_bytes, parse_bytes

# Words that people leave out or add, and whatever separates words: "NVIDIA GeForce RTX 4090" is "4090".
_NOISE = re.compile(r"nvidia|geforce|tesla|quadro|rtx|amd|instinct|[^a-z0-9]")

# Drivers differ by 2 %, and ECC takes 6 %; cards of one name by 20 % and more (RTX 3080: 10 and 12 GB).
_SAME_MEMORY = 0.09

Size = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A number of bytes that somebody measured, or that is assumed for want of a measurement."""

    bytes: Size
    status: Literal["measured", "assumed"]
    source: Text


class Gpu(_Frozen):
    """One card, or one die of it where PyTorch sees each die as a device of its own."""

    name: Text
    """As in `--gpu`, such as "rtx-4090" or "a100-80gb"."""
    product: Text
    """As the driver names it, with the memory behind it where that name does not tell cards apart."""
    aliases: tuple[Text, ...] = ()
    vendor: Literal["NVIDIA", "AMD"]
    architecture: Text
    label: Text
    """The memory's size as it is sold, such as "24 GB"."""
    memory: Figure
    """All that programs can have, contexts included (cudaDeviceProp.totalGlobalMem)."""
    context: Figure
    """What a training process takes outside of PyTorch's allocator: context and kernels, no NCCL."""
    compute_capability: tuple[int, int] | None = None
    """(major, minor); None on AMD cards, whose numbers mean something else."""
    multiprocessors: Annotated[int, Field(gt=0)]
    """SMs, or compute units on AMD cards."""
    bandwidth_gb_s: Annotated[float, Field(gt=0)]
    """Of the memory, in 10^9 bytes a second."""
    specs: Text
    """Where compute capability, multiprocessors and bandwidth come from."""

    @property
    def memory_bytes(self) -> int:
        """What the driver reports to programs."""
        return self.memory.bytes

    @property
    def context_bytes(self) -> int:
        """What is gone before PyTorch's allocator has anything."""
        return self.context.bytes

    @model_validator(mode="before")
    @classmethod
    def _split_capability(cls, values: dict[str, Any]) -> dict[str, Any]:
        capability = values.get("compute_capability")
        return {**values, "compute_capability": capability.split(".")} if isinstance(capability, str) else values

    @field_serializer("compute_capability", when_used="json")
    def _join_capability(self, capability: tuple[int, int] | None) -> str | None:
        return None if capability is None else "{}.{}".format(*capability)


class ContextModel(_Frozen):
    """What a context takes on cards where nobody measured it: a base, and so much for each thread they can hold."""

    base: Size
    bytes_per_thread: Annotated[int, Field(gt=0)]
    source: Text
    threads_per_multiprocessor: dict[str, int]

    def estimate(self, card: dict[str, Any]) -> dict[str, Any]:
        """Return the figure for a card as it stands in the file."""
        threads = card["multiprocessors"] * self.threads_per_multiprocessor[card["compute_capability"]]
        return {"bytes": self.base + threads * self.bytes_per_thread, "status": "assumed", "source": self.source}


def find_gpu(name: str) -> Gpu:
    """Return the card of that name; case, separators, "NVIDIA", "GeForce", "RTX" and the memory's size may differ.

    Raises:
        ConfigError: no card is called so, or several are; the hint names the nearest.
    """
    wanted, keys = _key(name), _keys()
    if wanted in keys:
        return keys[wanted]
    near = [gpu.name for key, gpu in keys.items() if wanted and key.startswith(wanted)]
    near += [keys[key].name for key in get_close_matches(wanted, keys, n=8, cutoff=0.5)]
    names = list(dict.fromkeys(near))[:4]
    question = f"did you mean {_either(names)}? " if names else ""
    hint = f"{question}`vram gpus` lists all; for another card give --memory-limit SIZE"
    raise ConfigError(f"unknown GPU {name!r}", hint)


def recognise_gpu(product: str, memory_bytes: int) -> Gpu:
    """Return the card that a driver names so and that has about that much memory: some names are those of several.

    Raises:
        ConfigError: the catalogue has no such card.
    """
    called = [gpu for gpu in _catalogue() if _key(product) in _driver_keys(gpu)]
    nearest = min(called, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes), default=None)
    if nearest is None or abs(nearest.memory_bytes / memory_bytes - 1) > _SAME_MEMORY:
        raise ConfigError(
            f"the catalogue has no {product} with {format_bytes(memory_bytes)}",
            "`vram gpus` lists it; for another GPU, give --gpu NAME of that kind, --memory-limit and --overhead",
        )
    return nearest


def select_gpus(text: str = "") -> tuple[Gpu, ...]:
    """Return the card of exactly that name, or else those that `all_gpus` or `find_gpu` find.

    Raises:
        ConfigError: nothing matches; the hint names the nearest.
    """
    named = tuple(gpu for gpu in _catalogue() if gpu.name == text.lower())
    try:
        return named or all_gpus(text) or (find_gpu(text),)
    except ConfigError as unknown:
        raise ConfigError(f"no GPU matches {text!r}", unknown.hint) from None


def all_gpus(text: str = "") -> tuple[Gpu, ...]:
    """Return the cards in the order of the file; with a text, those that have all of its words somewhere in them.

    A word may be a part of a name, of the vendor or of the architecture, such as "a100", "amd" or "ada 24gb".
    """
    words = [_squeeze(word) for word in text.split()]
    return tuple(gpu for gpu in _catalogue() if all(word in _haystack(gpu) for word in words))


@cache
def _catalogue() -> tuple[Gpu, ...]:
    document = yaml.safe_load(files("vram_cli.hardware").joinpath("gpus.yaml").read_text(encoding="utf-8"))
    model = ContextModel(**document["context_model"])
    cards = document["gpus"]
    return tuple(Gpu(**{**card, "context": card.get("context") or model.estimate(card)}) for card in cards)


@cache
def _keys() -> dict[str, Gpu]:
    """All names by which a card is found. A name that is meant beats one that is put together."""
    made = {_key(gpu.name + gpu.label): gpu for gpu in _catalogue()}
    return made | {_key(name): gpu for gpu in _catalogue() for name in (gpu.name, gpu.product, *gpu.aliases)}


def _driver_keys(gpu: Gpu) -> set[str]:
    """Return the names by which a driver may call a card, with the memory's size behind them and without."""
    keys = {_key(name) for name in (gpu.product, *gpu.aliases)}
    return keys | {key.removesuffix(_squeeze(gpu.label)) for key in keys}


def _key(name: str) -> str:
    return _NOISE.sub("", name.lower())


def _squeeze(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _haystack(gpu: Gpu) -> str:
    return " ".join(map(_squeeze, (gpu.name, gpu.product, *gpu.aliases, gpu.vendor, gpu.architecture, gpu.label)))


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
