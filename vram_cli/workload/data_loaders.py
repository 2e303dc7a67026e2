"""What a DataLoader consists of: its Dataset, its collate function, and the samples that its sampler draws."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from vram_cli.errors import ConfigError

_MAX_DRAWS = 1_000_000
"""Indices that are drawn from a sampler, and samples in the batches drawn from a batch sampler."""

_WAY_OUT = "give it a batch_size parameter or attribute, or name a function of n that returns a batch"


@dataclass(frozen=True)
class LoaderParts:
    """The parts of a DataLoader that do not depend on its batch size."""

    dataset: Any
    collate_fn: Callable[[list[Any]], Any]
    indices: Sequence[int] | None
    """The samples that its sampler draws; None for all."""
    length: int | None
    """Samples per epoch, if its sampler has a length."""
    batch_sampler: ResizableSampler | None
    """The sampler of its batches, if it is not PyTorch's own."""


def is_loader(value: Any) -> bool:
    """Whether this is a DataLoader, PyTorch's or one like it."""
    parts = ("dataset", "collate_fn", "batch_sampler")
    return all(hasattr(value, part) for part in parts) and not hasattr(value, "__getitem__")


def parts_of_loader(loader: Any, *, is_stream: bool) -> LoaderParts:
    """Return the parts of a DataLoader, whose batch size and workers are left out.

    Raises:
        ConfigError: it has no batch size to replace.
    """
    batch_sampler = loader.batch_sampler
    if batch_sampler is None:
        raise ConfigError(
            "data.factory: the DataLoader has batch_size=None, so its dataset makes whole batches of its own size",
            "return a DataLoader or a Dataset of single samples, or name a function of n that returns a batch",
        )
    if is_stream:
        return LoaderParts(loader.dataset, loader.collate_fn, None, None, None)
    if type(batch_sampler) is BatchSampler:
        indices, length = _drawn(batch_sampler.sampler, loader.dataset)
        return LoaderParts(loader.dataset, loader.collate_fn, indices, length, None)
    resizable = ResizableSampler(batch_sampler, len(loader.dataset))
    return LoaderParts(loader.dataset, loader.collate_fn, None, None, resizable)


def _drawn(sampler: Any, dataset: Any) -> tuple[Sequence[int] | None, int | None]:
    """Return the samples that a sampler draws, each once, and the number of its draws; (None, None) for all."""
    if type(sampler) in (SequentialSampler, RandomSampler):
        return None, None
    length = len(sampler) if hasattr(sampler, "__len__") else None
    draws = islice(sampler, min(length or len(dataset), _MAX_DRAWS))
    return list(dict.fromkeys(int(i) for i in draws)), length


class ResizableSampler:
    """A batch sampler of the user's own, with batches of any size.

    It is created again with another `batch_size`, if its other arguments are attributes; or a copy of it gets another.

    Raises:
        ConfigError: neither changes the size of its batches.
    """

    def __init__(self, sampler: Iterable[list[int]], num_samples: int) -> None:
        self.name, self._sampler = type(sampler).__name__, sampler
        own = max(map(len, islice(sampler, 10)), default=0)
        # Twice the size, because some samplers make multiples only.
        size = 2 * own if 2 * own <= num_samples else max(own // 2, 1)
        for resize in (_create_again, _copy_with):
            if _makes_batches(resize, sampler, size):
                self._resize = resize
                return
        raise ConfigError(
            f"data.factory: the batch size of the batch_sampler {self.name} cannot be changed from {own}", _WAY_OUT
        )

    def batches(self, n: int) -> list[list[int]]:
        """Return the batches of one epoch at batch size n; the last may have fewer samples.

        Raises:
            ValueError: the sampler makes none of that size.
        """
        batches = list(_batches(self._resize(self._sampler, n)))
        if max(map(len, batches), default=0) != n:
            raise ValueError(f"the batch_sampler {self.name} makes no batch of {n:,}")
        return batches


def _makes_batches(resize: Callable[[Any, int], Any], sampler: Any, n: int) -> bool:
    try:
        return n in map(len, _batches(resize(sampler, n)))
    except Exception:  # noqa: BLE001 - the sampler does not allow this; there is another way, or an error that says so
        return False


def _create_again(sampler: Any, n: int) -> Any:
    parameters = inspect.signature(type(sampler)).parameters.values()
    arguments = {}
    for parameter in parameters:
        if parameter.name == "batch_size" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        names = (name for name in (parameter.name, f"_{parameter.name}") if hasattr(sampler, name))
        name = next(names, None)
        if name is not None:
            arguments[parameter.name] = getattr(sampler, name)
        elif parameter.default is parameter.empty:
            raise TypeError(f"{type(sampler).__name__} does not keep its argument {parameter.name}")
    return type(sampler)(**arguments, batch_size=n)


def _copy_with(sampler: Any, n: int) -> Any:
    if not hasattr(sampler, "batch_size"):
        raise TypeError(f"{type(sampler).__name__} has no batch_size")
    other = copy.copy(sampler)
    other.batch_size = n
    return other


def _batches(sampler: Iterable[Sequence[int]]) -> Iterator[list[int]]:
    """Draw the batches of an epoch, or of the start of one."""
    drawn = 0
    for batch in sampler:
        yield [int(i) for i in batch]
        drawn += len(batch)
        if drawn >= _MAX_DRAWS:
            return
