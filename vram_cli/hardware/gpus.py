"""The catalogue of GPUs: the figures that drivers report to programs, and the source of each figure.

The figures are data, in `gpus.yaml`; this module never queries a device.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_serializer, model_validator

from vram_cli.errors import ConfigError
from vram_cli.hardware.device_properties import Count, DeviceProperties, Frozen, MultiprocessorLimits, Size, Text
from vram_cli.units import format_bytes

# Optional words in names, and all separators: "NVIDIA GeForce RTX 4090" is "4090".
_NOISE = re.compile(r"nvidia|geforce|tesla|quadro|rtx|amd|instinct|[^a-z0-9]")

# Drivers differ by 2 %, and ECC takes 6 %; GPUs with the same name differ by 20 % and more (RTX 3080: 10 and 12 GB).
_MEMORY_TOLERANCE = 0.09


class Figure(Frozen):
    """A number of bytes, measured or assumed, and its source."""

    bytes: Size
    status: Literal["measured", "assumed"]
    source: Text


class Gpu(Frozen):
    """One GPU; one die, if PyTorch sees each die as a device."""

    name: Text
    """The name for `--gpu`, such as "rtx-4090" or "a100-80gb"."""
    product: Text
    """The driver's name, followed by the memory size if several GPUs share that name."""
    aliases: tuple[Text, ...] = ()
    vendor: Literal["NVIDIA", "AMD"]
    architecture: Text
    label: Text
    """The nominal memory size, such as "24 GB"."""
    memory: Figure
    """Total memory for programs, including contexts (cudaDeviceProp.totalGlobalMem)."""
    context: Figure
    """Memory of a training process outside PyTorch's allocator: CUDA context and kernels, without NCCL."""
    compute_capability: tuple[int, int] | None = None
    """(major, minor); None for AMD GPUs, whose numbers mean something else."""
    multiprocessors: Count
    """Number of SMs, or of compute units of an AMD GPU."""
    bandwidth_gb_s: Annotated[float, Field(gt=0)]
    """Memory bandwidth in 10^9 bytes per second."""
    specs: Text
    """The source of compute capability, multiprocessors and bandwidth."""
    limits: MultiprocessorLimits | None = None
    """What one SM can hold; None for AMD GPUs."""
    properties: DeviceProperties | None = None
    """Cache, clocks and bus width; None for AMD GPUs."""

    @property
    def memory_bytes(self) -> int:
        """Total memory that the driver reports."""
        return self.memory.bytes

    @property
    def context_bytes(self) -> int:
        """Memory that PyTorch's allocator can never use."""
        return self.context.bytes

    @property
    def driver_name(self) -> str:
        """The name that the driver reports: without the memory size that tells two GPUs of that name apart."""
        return self.product.removesuffix(" " + self.label.replace(" ", ""))

    def cuda(self) -> tuple[tuple[int, int], MultiprocessorLimits, DeviceProperties]:
        """Return compute capability, limits and properties.

        Raises:
            ConfigError: the GPU has no CUDA.
        """
        if self.compute_capability is None or self.limits is None or self.properties is None:
            raise ConfigError(f"{self.name} has no CUDA", "give --gpu with a GPU from NVIDIA")
        return self.compute_capability, self.limits, self.properties

    @model_validator(mode="before")
    @classmethod
    def _split_capability(cls, values: dict[str, Any]) -> dict[str, Any]:
        capability = values.get("compute_capability")
        return {**values, "compute_capability": capability.split(".")} if isinstance(capability, str) else values

    @field_serializer("compute_capability", when_used="json")
    def _join_capability(self, capability: tuple[int, int] | None) -> str | None:
        return None if capability is None else "{}.{}".format(*capability)


class ContextModel(Frozen):
    """An estimate of the context for GPUs without a measurement: a base, plus bytes per resident thread."""

    base: Size
    bytes_per_thread: Count
    source: Text

    def estimate(self, threads: int) -> Figure:
        """Return the figure for a GPU that holds that many threads."""
        return Figure(bytes=self.base + threads * self.bytes_per_thread, status="assumed", source=self.source)


DEFAULT_GPU = "t4"
"""The GPU to predict for if a machine has none and nobody names one: that of free notebooks."""


def find_gpu(name: str) -> Gpu:
    """Return the GPU of a name; case, separators, "NVIDIA", "GeForce", "RTX" and the memory size may differ.

    Raises:
        ConfigError: no GPU or several GPUs have that name; the hint names the closest.
    """
    key, keys = _key(name), _keys()
    if key in keys:
        return keys[key]
    matches = [gpu.name for other, gpu in keys.items() if key and other.startswith(key)]
    matches += [keys[other].name for other in get_close_matches(key, keys, n=8, cutoff=0.5)]
    names = list(dict.fromkeys(matches))[:4]
    question = f"did you mean {_either(names)}? " if names else ""
    hint = f"{question}`vram gpus` lists all; for another GPU, give --memory-limit SIZE"
    raise ConfigError(f"unknown GPU {name!r}", hint)


def check_overhead(overhead_bytes: int, memory_bytes: int) -> None:
    """Refuse memory that is all overhead.

    Raises:
        ConfigError: nothing is left for PyTorch's allocator.
    """
    if overhead_bytes >= memory_bytes:
        raise ConfigError(
            f"an overhead of {format_bytes(overhead_bytes)} leaves nothing of {format_bytes(memory_bytes)}",
            "give a smaller --overhead or a larger --memory-limit",
        )


def recognise_gpu(product: str, memory_bytes: int) -> Gpu:
    """Return the GPU with a driver's name and about that much memory; several GPUs may share a name.

    Raises:
        ConfigError: the catalogue has no such GPU.
    """
    matches = [gpu for gpu in _catalogue() if _key(product) in _driver_keys(gpu)]
    nearest = min(matches, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes), default=None)
    if nearest is None or abs(nearest.memory_bytes / memory_bytes - 1) > _MEMORY_TOLERANCE:
        raise ConfigError(
            f"the catalogue has no {product} with {format_bytes(memory_bytes)}",
            "`vram gpus` lists all; for another GPU, give --gpu with a similar one, --memory-limit and --overhead",
        )
    return nearest


def select_gpus(text: str = "") -> tuple[Gpu, ...]:
    """Return the GPU with exactly that name, otherwise the matches of `all_gpus` or `find_gpu`.

    Raises:
        ConfigError: nothing matches; the hint names the closest.
    """
    exact = tuple(gpu for gpu in _catalogue() if gpu.name == text.lower())
    try:
        return exact or all_gpus(text) or (find_gpu(text),)
    except ConfigError as unknown:
        raise ConfigError(f"no GPU matches {text!r}", unknown.hint) from None


def all_gpus(text: str = "") -> tuple[Gpu, ...]:
    """Return all GPUs in the order of the file, or those that match every word of a text.

    A word matches part of a name, the vendor, the architecture or the memory size, such as "a100", "amd" or "ada 24gb".
    """
    words = [_squeeze(word) for word in text.split()]
    return tuple(gpu for gpu in _catalogue() if all(word in _haystack(gpu) for word in words))


@cache
def _catalogue() -> tuple[Gpu, ...]:
    text = files("vram_cli.hardware").joinpath("gpus.yaml").read_text(encoding="utf-8")
    # libyaml's loader takes a tenth of the time, where PyYAML has it.
    document = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    limits = {name: MultiprocessorLimits(**entry) for name, entry in document["multiprocessor_limits"].items()}
    model = ContextModel(**document["context_model"])
    return tuple(_gpu(entry, limits.get(entry.get("compute_capability")), model) for entry in document["gpus"])


def _gpu(entry: dict[str, Any], limits: MultiprocessorLimits | None, model: ContextModel) -> Gpu:
    """Return the GPU of an entry of the file; a context that is not in the entry is estimated."""
    if limits and "context" not in entry:
        entry = {**entry, "context": model.estimate(entry["multiprocessors"] * limits.threads_per_multiprocessor)}
    return Gpu(**entry, limits=limits)


@cache
def _keys() -> dict[str, Gpu]:
    """Return the keys of all names; a name from the catalogue replaces a combination of name and size."""
    with_size = {_key(gpu.name + gpu.label): gpu for gpu in _catalogue()}
    return with_size | {_key(name): gpu for gpu in _catalogue() for name in (gpu.name, gpu.product, *gpu.aliases)}


def _driver_keys(gpu: Gpu) -> set[str]:
    """Return the keys of a driver's names for a GPU, with and without the memory size."""
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
