"""Batches that the config's own code makes: a function of n, or a Dataset whose largest samples stand for the worst."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch.utils.data import default_collate

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.batch_pattern import Pattern
from vram_cli.workload.batches import Batch, leaves_of, lengths_of, moved, parts_of, rebuilt, sample_in, tensors_of
from vram_cli.workload.user_code import blamed_on, called, resolve

LOOKED_AT = 2000
"""Samples of a Dataset among which the largest are looked for."""
LOOK_SECONDS = 10.0
"""No longer than this."""

_OF_N = ("n", "batch_size")
Joined = Callable[[Sequence[int]], Batch]
"""From the places of samples in a Dataset to a batch of them."""

_BATCHES = (Mapping, tuple, str, torch.Tensor)
"""They have items and a length, and are no Dataset: what a function returns that makes one batch only."""


class UserData:
    """Batches from code; from small ones it learns what others look like.

    `joined` makes a batch of chosen samples, where the code is a Dataset.
    """

    def __init__(self, info: DataInfo, make: Callable[[int], Batch], joined: Joined | None = None) -> None:
        self.info, self._make, self.joined = info, make, joined
        self._pattern: Pattern | None = None

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device.

        Raises:
            ConfigError: the code returned another number of samples, or no tensors.
        """
        return moved(_checked(self._make(n), n), device, dtype)

    def learn(self) -> None:
        """Make batches of 2, 3 and 5 samples, to know without the code what any other looks like.

        Raises:
            ConfigError: they differ in more than their sizes, or these grow in no straight line.
        """
        try:
            self._pattern = Pattern(*(_checked(self._make(n), n) for n in (2, 3, 5)))
        except ValueError as error:
            hint = "only real trials can answer for such data: on a GPU, or with --device cpu and a --memory-limit"
            raise ConfigError(f"data.factory: {error}: a prediction cannot know larger batches", hint) from error

    def make_shapes(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return a batch like those that `learn` has seen, with nothing in it."""
        if self._pattern is None:
            raise RuntimeError("learn() comes first")
        return moved(self._pattern.batch(n, device), device, dtype)


def from_code(config: Config) -> UserData:
    """Return the source that `data.factory` names.

    Raises:
        ConfigError: it cannot be imported, or is neither a function of n nor a Dataset.
    """
    data = config.data
    reference = str(data.factory)
    found = resolve(reference, "data.factory")
    if not inspect.isclass(found) and callable(found) and _is_of_n(found):
        if data.collate_fn is not None:
            raise ConfigError(f"data.collate_fn: {reference} makes whole batches", "leave data.collate_fn out")

        def make(n: int) -> Batch:
            with blamed_on(f"data.factory ({reference})"):
                return found(n, **data.kwargs)

        return UserData(_info(config, make, "a function of n", data.length), make)
    _require_arguments(found, reference, data.kwargs)
    dataset = called(reference, "data.factory", data.kwargs) if callable(found) else found
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or isinstance(dataset, _BATCHES):
        raise ConfigError(
            f"data.factory: {reference} gives a {type(dataset).__name__}, which is no Dataset",
            "name a Dataset (with __len__ and __getitem__), or a function whose first argument is called n",
        )
    collate = resolve(data.collate_fn, "data.collate_fn") if data.collate_fn else default_collate
    worst = _Worst(dataset, collate, "data.collate_fn" if data.collate_fn else "data.factory")
    return UserData(_info(config, worst, worst.words, data.length or len(dataset)), worst, worst.joined)


class _Worst:
    """Batches of a Dataset's largest samples, so that no real batch takes more memory."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Batch], blamed: str) -> None:
        self._dataset, self._collate, self._blamed = dataset, collate, blamed
        with blamed_on("data.factory"):
            sizes = _sizes(dataset)
        if not sizes:
            raise ConfigError("data.factory: the Dataset is empty", "a batch needs at least one sample")
        self._order = sorted(sizes, key=lambda i: (-sizes[i], i))
        seen, length = len(sizes), len(dataset)
        looked = f"all {length:,} samples" if seen == length else f"{seen:,} samples from all over its {length:,}"
        differ = len(set(sizes.values())) > 1
        self.words = f"the largest of {looked} stand for the worst batch" if differ else f"{looked} are of one size"

    def __call__(self, n: int) -> Batch:
        return self.joined([self._order[i % len(self._order)] for i in range(n)])

    def joined(self, chosen: Sequence[int]) -> Batch:
        """Return the batch of these samples."""
        with blamed_on(self._blamed):
            batch = self._collate([self._dataset[i] for i in chosen])
        return _as_tuples(batch) if self._collate is default_collate else batch


def _as_tuples(batch: Batch) -> Batch:
    """Make tuples of the lists in which PyTorch's own collate puts the fields of samples; ours hold samples."""
    parts = parts_of(batch)
    if parts is None:
        return batch
    made = rebuilt(batch, {key: _as_tuples(part) for key, part in parts.items()})
    return tuple(made) if isinstance(made, list) else made


def _sizes(dataset: Any) -> dict[int, int]:
    """Return the sizes of some samples from all over a Dataset; it may be sorted."""
    end = time.monotonic() + LOOK_SECONDS
    sizes: dict[int, int] = {}
    for i in Random(0).sample(range(len(dataset)), min(len(dataset), LOOKED_AT)):  # noqa: S311 - the same each time
        sizes[i] = _size(dataset[i])
        if time.monotonic() > end:
            break
    return sizes


def _size(sample: Any) -> int:
    """Return the bytes of a sample's tensors and arrays, or without any the length of its text; a number counts 1."""
    leaves = list(leaves_of(sample))
    arrays: list[int] = [leaf.nbytes for leaf in leaves if getattr(leaf, "ndim", 0) and hasattr(leaf, "nbytes")]
    texts = [] if arrays else [len(leaf) for leaf in leaves if isinstance(leaf, (str, bytes))]
    return sum(arrays) + sum(texts) + len(leaves)


def _checked(batch: Batch, n: int) -> Batch:
    lengths = lengths_of(batch)
    if not tensors_of(batch):
        raise ConfigError(f"data.factory: asked for a batch of {n}, got no tensor in it", "return tensors")
    # A DataLoader puts the fields of a batch into a list.
    if n not in lengths and not (isinstance(batch, list) and n in lengths_of(tuple(batch))):
        found = " and ".join(str(length) for length in sorted(lengths)) or "none"
        hint = "return as many samples as asked; data.num_samples says where they end"
        raise ConfigError(f"data.factory: asked for a batch of {n}, got one of {found}", hint)
    return batch


def _info(config: Config, make: Callable[[int], Batch], detail: str, length: int | None) -> DataInfo:
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    batch = moved(_checked(make(1), 1), torch.device("meta"), dtype)
    return DataInfo(
        name=str(config.data.factory),
        source="code",
        detail=detail,
        tensors=tuple(
            TensorInfo(name=name, shape=shape, dtype=str(kind).removeprefix("torch."))
            for name, shape, kind in sample_in(batch)
        ),
        classes=None,
        num_samples=length,
    )


def _require_arguments(found: Any, reference: str, kwargs: Mapping[str, Any]) -> None:
    """Tell a function of the batch size that calls it by another name from one that lacks arguments."""
    if not inspect.isfunction(found):
        return
    empty, variable = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in inspect.signature(found).parameters.items():
        if parameter.default is empty and parameter.kind not in variable and name not in kwargs:
            raise ConfigError(
                f"data.factory: {reference} needs {name!r}, and data.kwargs does not have it",
                "a function that makes batches calls their size n or batch_size, as its first argument",
            )


def _is_of_n(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters), None)
    except ValueError:
        return False
    return first in _OF_N
