"""From `data.factory` to a source of batches: of a function of n, a Dataset, a stream or a DataLoader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils.data import IterableDataset, default_collate

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.workload.data_loaders import LoaderParts, is_loader, parts_of_loader
from vram_cli.workload.data_source import DataSource
from vram_cli.workload.sample_sizes import largest_samples
from vram_cli.workload.streams import read_stream
from vram_cli.workload.user_code import errors_from, instantiate, resolve
from vram_cli.workload.user_data import UserFunction
from vram_cli.workload.user_dataset import Samples, UserDataset

_SIZE_PARAMETERS = ("n", "batch_size")

_NO_DATASETS = (Mapping, tuple, str, bytes, set, Tensor, nn.Module)
"""They have items and a length, but are no Dataset: a function that returns one makes a single batch."""


def open_user_data(config: Config) -> DataSource:
    """Return the source that `data.factory` names.

    Raises:
        ConfigError: it cannot be imported, or is neither a function of n nor a data set.
    """
    reference, kwargs = str(config.data.factory), config.data.kwargs
    factory = resolve(reference, "data.factory")
    if not inspect.isclass(factory) and callable(factory) and _first_parameter(factory) in _SIZE_PARAMETERS:
        if config.data.collate_fn is not None:
            raise ConfigError(f"data.collate_fn: {reference} makes whole batches", "leave data.collate_fn out")
        return UserFunction(config, factory)
    _require_arguments(factory, reference, kwargs)
    dataset = instantiate(reference, "data.factory", kwargs) if callable(factory) else factory
    parts = LoaderParts(dataset, default_collate, None, None, None)
    is_from_loader = is_loader(dataset)
    if is_from_loader:
        with errors_from("data.factory"):
            parts = parts_of_loader(dataset, is_stream=_is_stream(dataset.dataset))
    samples = _open_samples(parts, reference)
    if is_from_loader:
        taken = "Dataset" if not samples.is_stream else "stream"
        samples = replace(samples, note=f"a DataLoader's {taken} and collate_fn, whose batch size is replaced")
    named = config.data.collate_fn
    collate_fn = resolve(named, "data.collate_fn") if named else parts.collate_fn
    return UserDataset(config, samples, collate_fn, "data.collate_fn" if named else "data.factory")


def _open_samples(parts: LoaderParts, reference: str) -> Samples:
    """Look at the samples of a data set or a stream."""
    dataset = parts.dataset
    if _is_stream(dataset):
        stream = read_stream(dataset, reference)
        largest = replace(largest_samples(stream.samples), differ=stream.differ)
        return Samples(stream.samples, largest, stream.count, stream.length, stream.length, is_stream=True)
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or isinstance(dataset, _NO_DATASETS):
        hint = "name a Dataset (with __len__ and __getitem__, or an IterableDataset), a DataLoader, or a function"
        if isinstance(dataset, Mapping) and dataset:
            hint = f"it has the keys {', '.join(map(str, list(dataset)[:6]))}: return one of its data sets; or {hint}"
        raise ConfigError(
            f"data.factory: {reference} gives a {type(dataset).__name__}, which is not a Dataset",
            f"{hint} whose first parameter is n",
        )
    with errors_from("data.factory"):
        largest = largest_samples(dataset, parts.indices)
        count = len(dataset) if parts.indices is None else len(parts.indices)
    if not largest.order:
        raise ConfigError("data.factory: the Dataset is empty", "a batch needs at least one sample")
    return Samples(
        dataset,
        largest,
        measured=len(largest.order),
        total=count,
        per_epoch=parts.length or count,
        indices=parts.indices,
        batch_sampler=parts.batch_sampler,
    )


def _is_stream(dataset: Any) -> bool:
    """Whether samples can only be read in their order."""
    if isinstance(dataset, IterableDataset):
        return True
    can_iterate = hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__")
    return can_iterate and not isinstance(dataset, _NO_DATASETS)


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
