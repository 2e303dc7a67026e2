"""The sizes of samples: which samples of a Dataset make its worst batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from vram_cli.workload.batches import parts_of, tensors_of

MAX_SAMPLES_MEASURED = 2000
"""Samples of a Dataset that are looked at, if all of them would take too long."""
MAX_SECONDS = 10.0
"""Time limit of looking at them, or at all samples."""

_SAMPLES_TO_VERIFY = 100
"""Random samples against which the lengths that a Dataset lists are verified."""
_AGREEMENT = 0.9
"""How large a sample must be, relative to all that are listed as no longer: it may have parts besides the listed."""
_LISTS_OF_LENGTHS = ("lengths", "sizes")
"""Attributes or methods in which a Dataset lists the lengths of its samples."""
_MAX_EXTENTS = 16


@dataclass
class SampleSize:
    """The size of one sample."""

    array_bytes: int = 0
    text_length: int = 0
    leaves: int = 0
    extents: dict[str, int] = field(default_factory=dict)
    """Each size of an array, and each length of a text or a list, by its path: what padding pads to."""

    @property
    def order(self) -> tuple[int, int]:
        """The bytes of its arrays, or else the length of its texts, each number counting 1; and a tie-break."""
        return self.array_bytes + self.leaves + (0 if self.array_bytes else self.text_length), self.text_length


@dataclass(frozen=True)
class LargestSamples:
    """The result of looking at samples."""

    order: Sequence[int]
    """Indices of all samples that were looked at, the largest first."""
    widest: Sequence[int]
    """The largest sample, and those that are longer than it in one of their sizes; padding may add those up."""
    sizes: dict[int, int]
    """Sizes by index; empty if all are the same, as in an array."""
    differ: bool
    """Whether sizes differ."""


def size_of(sample: Any) -> SampleSize:
    """Return the size of a sample."""
    size = SampleSize()
    _add(size, sample, "")
    return size


def largest_samples(dataset: Any, indices: Sequence[int] | None = None) -> LargestSamples:
    """Look at the samples of a Dataset, at all of them if that takes seconds, and return which are the largest.

    Args:
        dataset: has `__getitem__`.
        indices: the samples to consider; None for all.
    """
    indices = range(len(dataset)) if indices is None else indices
    if _is_array(dataset):
        return LargestSamples(order=indices, widest=(), sizes={}, differ=False)
    lengths = _listed_lengths(dataset)
    if lengths is not None and indices:
        measured = _verified(dataset, indices, lengths)
        if measured is not None:
            return measured
    return _look(dataset, indices)


def _look(dataset: Any, indices: Sequence[int]) -> LargestSamples:
    """Look at random samples, since a Dataset may be sorted; and then at the rest, if that takes no longer."""
    looked = _Looked()
    start, few = time.monotonic(), min(len(indices), MAX_SAMPLES_MEASURED)
    looked.add(dataset, Random(0).sample(indices, few), start + MAX_SECONDS)  # noqa: S311 - reproducible
    seconds = time.monotonic() - start
    if len(looked.sizes) == few and seconds / max(few, 1) * len(indices) <= MAX_SECONDS:
        looked.add(dataset, (i for i in indices if i not in looked.sizes), start + 2 * MAX_SECONDS)
    return looked.result()


class _Looked:
    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self._texts: dict[int, int] = {}
        self._longest: dict[str, tuple[int, int, int, int]] = {}

    def add(self, dataset: Any, indices: Iterable[int], end: float) -> None:
        for i in indices:
            size = size_of(dataset[i])
            self.sizes[i], text_length = size.order
            if text_length:
                self._texts[i] = text_length
            for path, extent in size.extents.items():
                # The order of equal extents is that of the samples.
                self._longest[path] = max(self._longest.get(path, (-1, 0, 0, 0)), (extent, *size.order, -i))
            if time.monotonic() > end:
                break

    def result(self) -> LargestSamples:
        sizes, texts = self.sizes, self._texts
        order = sorted(sizes, key=lambda i: (-sizes[i], -texts.get(i, 0), i))
        longest = [-i for *_, i in list(self._longest.values())[:_MAX_EXTENTS]]
        return LargestSamples(
            order=order,
            widest=tuple(dict.fromkeys([*order[:1], *longest])),
            sizes=sizes,
            differ=len(set(sizes.values())) > 1,
        )


def _verified(dataset: Any, indices: Sequence[int], lengths: Sequence[float]) -> LargestSamples | None:
    """Return the order by listed lengths; None if samples contradict it, since the list may be about something else."""
    order = sorted(indices, key=lambda i: (-lengths[i], i))
    some = Random(0).sample(indices, min(len(indices), _SAMPLES_TO_VERIFY))  # noqa: S311 - reproducible
    looked = _Looked()
    looked.add(dataset, [*order[:1], *order[-1:], *some], time.monotonic() + MAX_SECONDS)
    sizes = [size for _, size in sorted((lengths[i], size) for i, size in looked.sizes.items())]
    if any(size < _AGREEMENT * longest for size, longest in zip(sizes, accumulate(sizes, max), strict=True)):
        return None
    by_length = {i: math.ceil(lengths[i]) for i in indices}
    return LargestSamples(order=order, widest=(), sizes=by_length, differ=len(set(by_length.values())) > 1)


def _is_array(dataset: Any) -> bool:
    """Whether samples are rows of tensors or of an array, in memory or in a file."""
    if isinstance(dataset, Subset):
        return _is_array(dataset.dataset)
    has_rows = isinstance(getattr(dataset, "shape", None), tuple) and str(getattr(dataset, "dtype", object)) != "object"
    return has_rows or isinstance(dataset, TensorDataset)


def _listed_lengths(dataset: Any) -> Sequence[float] | None:
    """Return a length for each sample of a Dataset that knows them without reading its samples, or None."""
    if isinstance(dataset, TensorDataset):
        return [size_of(dataset[0]).order[0]] * len(dataset) if len(dataset) else []
    if isinstance(dataset, Subset):
        inner = _listed_lengths(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_listed_lengths(part) for part in dataset.datasets]
        return None if None in parts else [length for part in parts for length in part or ()]
    if "length" in (getattr(dataset, "column_names", None) or ()):  # the datasets package, as its Trainer groups by
        return _numbers(dataset["length"], len(dataset))
    listed = (_numbers(getattr(dataset, name, None), len(dataset)) for name in _LISTS_OF_LENGTHS)
    return next((lengths for lengths in listed if lengths is not None), None)


def _numbers(listed: Any, count: int) -> Sequence[float] | None:
    """Return a list, an array or the result of a method as that many numbers; sizes of two dimensions are areas."""
    try:
        listed = listed() if callable(listed) else listed
        listed = listed.tolist() if hasattr(listed, "tolist") else listed
        numbers = [math.prod(item) if isinstance(item, (list, tuple)) else float(item) for item in listed]
    except Exception:  # noqa: BLE001 - it is about something else; the samples themselves are looked at
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _add(size: SampleSize, part: Any, path: str) -> None:
    """Add a part of a sample; the elements of a list share a path, for their number differs."""
    if isinstance(part, (str, bytes)):
        size.text_length += len(part)
        size.leaves += 1
        _extend(size, path, len(part))
    elif isinstance(part, list) and part and isinstance(part[0], (int, float)):
        size.leaves += len(part)
        _extend(size, path, len(part))
    elif (parts := parts_of(part)) is not None:
        if isinstance(part, list):
            _extend(size, path, len(part))
        for key, value in parts.items():
            _add(size, value, f"{path}[]" if isinstance(part, list) else f"{path}.{key}")
    else:
        size.leaves += 1
        _add_array(size, part, path)


def _add_array(size: SampleSize, leaf: Any, path: str) -> None:
    if isinstance(leaf, torch.Tensor):
        tensors = tensors_of(leaf)
        size.array_bytes += sum(tensor.nbytes for tensor in tensors if tensor.dim())
        shape: Iterable[int] = leaf.shape if len(tensors) == 1 and tensors[0] is leaf else ()
    elif isinstance(getattr(leaf, "size", None), tuple):  # an image of PIL
        shape = leaf.size
        size.array_bytes += math.prod(leaf.size) * len(leaf.getbands() if hasattr(leaf, "getbands") else "?")
    else:
        shape = getattr(leaf, "shape", ()) if hasattr(leaf, "nbytes") else ()
        size.array_bytes += leaf.nbytes if shape else 0
    for dim, extent in enumerate(shape):
        _extend(size, f"{path}:{dim}", extent)


def _extend(size: SampleSize, path: str, extent: int) -> None:
    size.extents[path] = max(extent, size.extents.get(path, 0))
