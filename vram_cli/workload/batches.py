"""Batches of any structure: their tensors, their length, and what a batch of another size would look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

Batch = Any
"""Tensors in tuples, lists and mappings. (inputs, targets) is for a loss, anything else for the model itself."""


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """Return all tensors of a batch."""
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]


def moved(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Return the batch on the device; what is float32 becomes the dtype of the weights."""

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.to(device, dtype if leaf.dtype is torch.float32 else leaf.dtype)

    return tree_map(move, batch)


def channels_last(batch: Batch) -> Batch:
    """Return the batch with images, that is tensors of four dimensions, laid out with the channels last."""

    def lay(leaf: Any) -> Any:
        is_image = isinstance(leaf, torch.Tensor) and leaf.dim() == 4
        return leaf.contiguous(memory_format=torch.channels_last) if is_image else leaf

    return tree_map(lay, batch)


def lengths_of(batch: Batch) -> set[int]:
    """Return how many samples the parts of a batch have: rows of a tensor, elements of a list."""
    if isinstance(batch, torch.Tensor):
        return {len(batch)} if batch.dim() else set()
    if isinstance(batch, list):
        return {len(batch)}
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple) else ()
    return {length for part in parts for length in lengths_of(part)}


def named_tensors(batch: Batch, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Return the tensors of a batch with where they lie in it; of a list, those of its first element."""
    if isinstance(batch, torch.Tensor):
        yield path or "batch", batch
    elif isinstance(batch, Mapping):
        for key, part in batch.items():
            yield from named_tensors(part, f"{path}.{key}" if path else str(key))
    elif isinstance(batch, tuple):
        for i, part in enumerate(batch):
            yield from named_tensors(part, f"{path}[{i}]")
    elif isinstance(batch, list) and batch:
        yield from named_tensors(batch[0], path)


class Pattern:
    """What batches have in common, learned from one of 2 and one of 3 samples: sizes are straight lines in n.

    Raises:
        ValueError: the two differ in more than sizes, so that nobody can say what a third one is like.
    """

    def __init__(self, two: Batch, three: Batch) -> None:
        self._two, self._three = two, three
        _grown(two, three, 4, torch.device("meta"))  # says now what cannot be done

    def batch(self, n: int, device: torch.device) -> Batch:
        """Return a batch of n samples on the device: of the right sizes, with nothing in it."""
        return _grown(self._two, self._three, n, device)


def _grown(two: Any, three: Any, n: int, device: torch.device) -> Any:
    if isinstance(two, torch.Tensor) and isinstance(three, torch.Tensor) and two.dim() == three.dim():
        sizes = [_line(a, b, n) for a, b in zip(two.shape, three.shape, strict=True)]
        return torch.empty(sizes, dtype=two.dtype, device=device)
    if isinstance(two, Mapping) and isinstance(three, Mapping) and two.keys() == three.keys():
        return {key: _grown(two[key], three[key], n, device) for key in two}
    if isinstance(two, (list, tuple)) and type(two) is type(three):
        if len(two) == len(three):
            parts = [_grown(a, b, n, device) for a, b in zip(two, three, strict=True)]
        elif (len(two), len(three)) == (2, 3):
            parts = [_grown(two[0], two[0], n, device) for _ in range(n)]
        else:
            raise ValueError(f"batches of 2 and 3 have lists of {len(two)} and {len(three)}")
        return tuple(parts) if isinstance(two, tuple) else parts
    if isinstance(two, (int, float, str, bool, type(None))) and type(two) is type(three):
        return two
    raise ValueError(f"batches of 2 and 3 differ: {type(two).__name__} and {type(three).__name__}")


def _line(two: int, three: int, n: int) -> int:
    size = two + (three - two) * (n - 2)
    if size < 0:
        raise ValueError(f"a size of {two} at 2 samples and {three} at 3 cannot go on")
    return size
