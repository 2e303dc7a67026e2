"""Batches from the config's code: a function of n, or a Dataset whose largest samples make the worst batch."""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch.utils.data import default_collate

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.batch_pattern import BatchPattern
from vram_cli.workload.batches import (
    Batch,
    leaves_of,
    lengths_of,
    parts_of,
    rebuild,
    sample_tensors,
    tensors_of,
    to_device,
)
from vram_cli.workload.data_source import DataSource, IndexedSamples, MakeBatch
from vram_cli.workload.user_code import errors_from, instantiate, resolve

MAX_SAMPLES_MEASURED = 2000
"""Samples of a Dataset among which the largest are searched for."""
MAX_SECONDS = 10.0
"""Time limit of that search."""

_SIZE_PARAMETERS = ("n", "batch_size")

_NO_DATASETS = (Mapping, tuple, str, torch.Tensor)
"""They have items and a length, but are no Dataset: a function that returns one makes a single batch."""


class UserData(DataSource):
    """Batches from code; the shapes of large ones are learned from small ones."""

    @abstractmethod
    def _make(self, n: int) -> Batch:
        """Call the code for n samples."""

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device.

        Raises:
            ConfigError: the code returned another number of samples, or no tensors.
        """
        return to_device(self._checked(n), device, dtype)

    def make_shapes(self) -> MakeBatch:
        """Make batches of 2, 3 and 5 samples, and return a function that makes others like them, without values.

        Raises:
            ConfigError: the batches differ in more than their sizes, or a size is not linear in n.
        """
        try:
            pattern = BatchPattern(*(self._checked(n) for n in (2, 3, 5)))
        except ValueError as error:
            hint = "run real trials for such data: on a GPU, or with --device cpu and a --memory-limit"
            raise ConfigError(
                f"data.factory: {error}: the sizes of larger batches cannot be predicted", hint
            ) from error
        return lambda n, device, dtype: to_device(pattern.batch(n, device), device, dtype)

    def _checked(self, n: int) -> Batch:
        batch = self._make(n)
        lengths = lengths_of(batch)
        if not tensors_of(batch):
            raise ConfigError(f"data.factory: asked for a batch of {n}, got no tensor in it", "return tensors")
        # A DataLoader puts the fields of a batch into a list.
        if n not in lengths and not (isinstance(batch, list) and n in lengths_of(tuple(batch))):
            length = " and ".join(str(length) for length in sorted(lengths)) or "none"
            hint = "return exactly n samples; data.num_samples says how many there are"
            raise ConfigError(f"data.factory: asked for a batch of {n}, got one of {length}", hint)
        return batch

    def _describe(self, config: Config, detail: str, length: int | None) -> DataInfo:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        batch = to_device(self._checked(1), torch.device("meta"), dtype)
        return DataInfo(
            name=str(config.data.factory),
            source="code",
            detail=detail,
            tensors=tuple(
                TensorInfo(name=name, shape=shape, dtype=str(kind).removeprefix("torch."))
                for name, shape, kind in sample_tensors(batch)
            ),
            classes=None,
            num_samples=length,
        )


class UserFunction(UserData):
    """Batches from a function of n."""

    def __init__(self, config: Config, function: Callable[..., Batch]) -> None:
        self._function, self._kwargs = function, config.data.kwargs
        self._key = f"data.factory ({config.data.factory})"
        self.info = self._describe(config, "a function of n", config.data.length)

    def _make(self, n: int) -> Batch:
        with errors_from(self._key):
            return self._function(n, **self._kwargs)


class UserDataset(UserData):
    """Batches of a Dataset's largest samples, so that no real batch takes more memory."""

    def __init__(self, config: Config, dataset: Any) -> None:
        collate_fn = config.data.collate_fn
        self._dataset = dataset
        self._collate_fn = resolve(collate_fn, "data.collate_fn") if collate_fn else default_collate
        self._key = "data.collate_fn" if collate_fn else "data.factory"
        with errors_from("data.factory"):
            sizes = _sample_sizes(dataset)
        if not sizes:
            raise ConfigError("data.factory: the Dataset is empty", "a batch needs at least one sample")
        self._by_size = sorted(sizes, key=lambda i: (-sizes[i], i))
        measured, length = len(sizes), len(dataset)
        samples = f"all {length:,} samples" if measured == length else f"{measured:,} random samples of {length:,}"
        differ = len(set(sizes.values())) > 1
        detail = f"the worst batch: the largest of {samples}" if differ else f"{samples} are of one size"
        self.info = self._describe(config, detail, config.data.length or length)

    def indexed(self) -> IndexedSamples:
        """Return the samples of the Dataset, to select from."""
        return IndexedSamples(self.info.num_samples or 0, lambda indices: self._collate(indices.tolist()))

    def _make(self, n: int) -> Batch:
        return self._collate([self._by_size[i % len(self._by_size)] for i in range(n)])

    def _collate(self, indices: Sequence[int]) -> Batch:
        with errors_from(self._key):
            batch = self._collate_fn([self._dataset[i] for i in indices])
        return _lists_to_tuples(batch) if self._collate_fn is default_collate else batch


def open_user_data(config: Config) -> DataSource:
    """Return the source that `data.factory` names.

    Raises:
        ConfigError: it cannot be imported, or is neither a function of n nor a Dataset.
    """
    reference, kwargs = str(config.data.factory), config.data.kwargs
    factory = resolve(reference, "data.factory")
    if not inspect.isclass(factory) and callable(factory) and _first_parameter(factory) in _SIZE_PARAMETERS:
        if config.data.collate_fn is not None:
            raise ConfigError(f"data.collate_fn: {reference} makes whole batches", "leave data.collate_fn out")
        return UserFunction(config, factory)
    _require_arguments(factory, reference, kwargs)
    dataset = instantiate(reference, "data.factory", kwargs) if callable(factory) else factory
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or isinstance(dataset, _NO_DATASETS):
        raise ConfigError(
            f"data.factory: {reference} gives a {type(dataset).__name__}, which is not a Dataset",
            "name a Dataset (with __len__ and __getitem__), or a function whose first parameter is n",
        )
    return UserDataset(config, dataset)


def _lists_to_tuples(batch: Batch) -> Batch:
    """Turn the lists in which PyTorch's own collate puts the fields of samples into tuples; our lists hold samples."""
    parts = parts_of(batch)
    if parts is None:
        return batch
    batch = rebuild(batch, {key: _lists_to_tuples(part) for key, part in parts.items()})
    return tuple(batch) if isinstance(batch, list) else batch


def _sample_sizes(dataset: Any) -> dict[int, int]:
    """Return the sizes of random samples of a Dataset, by index: it may be sorted."""
    end = time.monotonic() + MAX_SECONDS
    sizes: dict[int, int] = {}
    indices = Random(0).sample(range(len(dataset)), min(len(dataset), MAX_SAMPLES_MEASURED))  # noqa: S311 - reproducible
    for i in indices:
        sizes[i] = _sample_size(dataset[i])
        if time.monotonic() > end:
            break
    return sizes


def _sample_size(sample: Any) -> int:
    """Return the bytes of a sample's tensors and arrays, or else the length of its text; each number counts 1."""
    leaves = list(leaves_of(sample))
    arrays: list[int] = [leaf.nbytes for leaf in leaves if getattr(leaf, "ndim", 0) and hasattr(leaf, "nbytes")]
    texts = [] if arrays else [len(leaf) for leaf in leaves if isinstance(leaf, (str, bytes))]
    return sum(arrays) + sum(texts) + len(leaves)


def _require_arguments(factory: Any, reference: str, kwargs: Mapping[str, Any]) -> None:
    """Explain the name of the size parameter to a function that has a required one by another name."""
    if not inspect.isfunction(factory):
        return
    empty, variable = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.default is empty and parameter.kind not in variable and name not in kwargs:
            raise ConfigError(
                f"data.factory: {reference} needs {name!r}, which data.kwargs lacks",
                "in a function that makes batches, name the first parameter n or batch_size",
            )


def _first_parameter(function: Callable[..., Any]) -> str | None:
    try:
        return next(iter(inspect.signature(function).parameters), None)
    except ValueError:
        return None
