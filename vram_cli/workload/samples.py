"""Batches that the config's own code makes: a function of n, or a Dataset whose largest samples stand for the worst."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.results import DataInfo, TensorInfo
from vram_cli.workload.batches import Batch, Pattern, lengths_of, moved, named_tensors, tensors_of
from vram_cli.workload.code import blamed_on, called, resolve

LOOKED_AT = 2000
"""Samples of a Dataset among which the largest are looked for."""
LOOK_SECONDS = 10.0
"""No longer than this."""

_OF_N = ("n", "batch_size")


class FromCode:
    """Batches from code; of those of 2 and 3 samples it learns what others look like."""

    def __init__(self, info: DataInfo, make: Callable[[int], Batch]) -> None:
        self.info, self._make = info, make
        self._pattern: Pattern | None = None

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device.

        Raises:
            ConfigError: the code returned another number of samples, or no tensors.
        """
        return moved(_checked(self._make(n), n), device, dtype)

    def learn(self) -> None:
        """Make batches of 2 and of 3 samples, to know without the code what any other looks like.

        Raises:
            ConfigError: the two differ in more than their sizes.
        """
        try:
            self._pattern = Pattern(_checked(self._make(2), 2), _checked(self._make(3), 3))
        except ValueError as error:
            hint = "only real trials can answer for such data: on a GPU, or with --device cpu and a --budget"
            raise ConfigError(f"data.target: {error}: a prediction cannot know larger batches", hint) from error

    def make_shapes(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return a batch like those that `learn` has seen, with nothing in it."""
        if self._pattern is None:
            raise RuntimeError("learn() comes first")
        return moved(self._pattern.batch(n, device), device, dtype)


def from_code(config: Config) -> FromCode:
    """Return the source that `data.target` names.

    Raises:
        ConfigError: it cannot be imported, or is neither a function of n nor a Dataset.
    """
    data = config.data
    target = str(data.target)
    found = resolve(target, "data.target")
    if not inspect.isclass(found) and callable(found) and _is_of_n(found):
        if data.collate is not None:
            raise ConfigError(f"data.collate: {target} makes whole batches", "leave collate out")

        def make(n: int) -> Batch:
            with blamed_on(f"data.target ({target})"):
                return found(n, **data.kwargs)

        return FromCode(_info(config, make, f"batches by {target}", data.length), make)
    dataset = called(target, "data.target", data.kwargs) if callable(found) else found
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ConfigError(
            f"data.target: {target} gives a {type(dataset).__name__}, which is no Dataset",
            "name a Dataset (with __len__ and __getitem__), or a function whose first argument is called n",
        )
    collate = resolve(data.collate, "data.collate") if data.collate else default_collate
    worst = _Worst(dataset, collate, "data.collate" if data.collate else "data.target")
    return FromCode(_info(config, worst, f"{target}: {worst.words}", data.length or len(dataset)), worst)


class _Worst:
    """Batches of a Dataset's largest samples, so that no real batch takes more memory."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Batch], blamed: str) -> None:
        self._dataset, self._collate, self._blamed = dataset, collate, blamed
        with blamed_on("data.target"):
            sizes = _sizes(dataset)
        if not sizes:
            raise ConfigError("data.target: the Dataset is empty", "a batch needs at least one sample")
        self._order = sorted(sizes, key=lambda i: -sizes[i])
        differ = len(set(sizes.values())) > 1
        looked = f"{len(sizes):,} samples looked at"
        self.words = f"the largest of {looked} stand for the worst batch" if differ else f"{looked}, all of one size"

    def __call__(self, n: int) -> Batch:
        chosen = [self._order[i % len(self._order)] for i in range(n)]
        with blamed_on(self._blamed):
            batch = self._collate([self._dataset[i] for i in chosen])
        # PyTorch's collate makes a list of the fields of a sample; a list of ours has one element a sample.
        return tuple(batch) if self._collate is default_collate and isinstance(batch, list) else batch


def _sizes(dataset: Any) -> dict[int, int]:
    end = time.monotonic() + LOOK_SECONDS
    sizes: dict[int, int] = {}
    for i in range(min(len(dataset), LOOKED_AT)):
        sizes[i] = sum(tensor.nbytes for tensor in tensors_of(dataset[i]))
        if time.monotonic() > end:
            break
    return sizes


def _checked(batch: Batch, n: int) -> Batch:
    lengths = lengths_of(batch)
    if not tensors_of(batch):
        raise ConfigError(f"data.target: asked for a batch of {n}, got no tensor in it", "return tensors")
    if n not in lengths:
        found = " and ".join(str(length) for length in sorted(lengths)) or "none"
        raise ConfigError(
            f"data.target: asked for a batch of {n}, got one of {found}", "return as many samples as asked"
        )
    return batch


def _info(config: Config, make: Callable[[int], Batch], detail: str, length: int | None) -> DataInfo:
    batch = _checked(make(1), 1)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    named = named_tensors(moved(batch, torch.device("meta"), dtype))
    is_list = isinstance(batch, list) or (isinstance(batch, tuple) and any(isinstance(part, list) for part in batch))
    return DataInfo(
        name=str(config.data.target),
        source="code",
        detail=detail,
        tensors=tuple(
            TensorInfo(name=name, shape=_sample(tensor.shape, is_list), dtype=str(tensor.dtype).removeprefix("torch."))
            for name, tensor in named
        ),
        classes=None,
        num_samples=length,
    )


def _sample(shape: Sequence[int], is_list: bool) -> tuple[int, ...]:
    return tuple(shape) if is_list else tuple(shape[1:])


def _is_of_n(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters), None)
    except ValueError:
        return False
    return first in _OF_N
