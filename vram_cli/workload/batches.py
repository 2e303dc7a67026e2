"""Batches of any structure: their tensors, their length, and moving them to a device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch

Batch = Any
"""Tensors in tuples, lists, mappings and dataclasses. (inputs, targets) is for a loss, anything else for the model.

A list, and a tuple within a batch, may hold one sample after the other, as batches for detection do.
"""

Parts = dict[Any, Any]


def parts_of(batch: Batch) -> Parts | None:
    """Return the parts of a batch or of a part, by key, field or position; None for a leaf."""
    if isinstance(batch, Mapping):
        return dict(batch.items())
    if isinstance(batch, (list, tuple)):
        return dict(zip(getattr(batch, "_fields", range(len(batch))), batch, strict=True))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return None


def rebuild(batch: Batch, parts: Parts) -> Batch:
    """Return an object of the same class with other parts."""
    if isinstance(batch, (list, tuple)):
        return type(batch)(*parts.values()) if hasattr(batch, "_fields") else type(batch)(parts.values())
    if isinstance(batch, Mapping) and not isinstance(batch, MutableMapping):
        return parts
    other = copy.copy(batch)
    for key, part in parts.items():
        if isinstance(batch, Mapping):
            other[key] = part
        else:
            object.__setattr__(other, key, part)  # works for frozen dataclasses as well
    return other


def leaves_of(batch: Batch) -> Iterator[Any]:
    """Return all leaves of a batch, tensors or not."""
    parts = parts_of(batch)
    if parts is None:
        yield batch
    else:
        for part in parts.values():
            yield from leaves_of(part)


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """Return all tensors of a batch."""
    return [leaf for leaf in leaves_of(batch) if isinstance(leaf, torch.Tensor)]


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Return the batch on the device; float32 tensors become `dtype`, that of the weights."""
    return _map(batch, lambda tensor: tensor.to(device, dtype if tensor.dtype is torch.float32 else tensor.dtype))


def channels_last(batch: Batch) -> Batch:
    """Return the batch with images, that is tensors of four dimensions, in the channels-last memory format."""
    layout = torch.channels_last
    return _map(batch, lambda tensor: tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor)


def _map(batch: Batch, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    if isinstance(batch, torch.Tensor):
        return function(batch)
    parts = parts_of(batch)
    return batch if parts is None else rebuild(batch, {key: _map(part, function) for key, part in parts.items()})


def lengths_of(batch: Batch, *, is_whole: bool = True) -> set[int]:
    """Return the numbers of samples of a batch's parts: rows of a tensor, elements of a list or of an inner tuple."""
    if isinstance(batch, torch.Tensor):
        return {len(batch)} if batch.dim() else set()
    if isinstance(batch, list):
        return {len(batch)}
    length = {len(batch)} if isinstance(batch, tuple) and not is_whole else set()
    parts = (parts_of(batch) or {}).values()
    return length.union(*(lengths_of(part, is_whole=False) for part in parts))


def sample_tensors(batch: Batch) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    """Return the path of each tensor in a batch of one sample, its sizes without the batch dimension, and its dtype."""
    for path, tensor, has_rows in _tensors_by_path(batch, "", has_rows=True, is_whole=True):
        yield path or "batch", tuple(tensor.shape[1:] if has_rows else tensor.shape), tensor.dtype


def _tensors_by_path(
    batch: Batch, path: str, *, has_rows: bool, is_whole: bool = False
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    if isinstance(batch, torch.Tensor):
        yield path, batch, has_rows
    elif has_rows and _is_list_of_one(batch, is_whole=is_whole):
        yield from _tensors_by_path(batch[0], path, has_rows=False)
    else:
        for key, part in (parts_of(batch) or {}).items():
            name = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
            yield from _tensors_by_path(part, path + name, has_rows=has_rows)


def _is_list_of_one(batch: Batch, *, is_whole: bool) -> bool:
    """Whether this holds one sample as such, and not the fields of a batch, which would have one row each."""
    if not isinstance(batch, (list, tuple)) or len(batch) != 1:
        return False
    return isinstance(batch, list) or not (is_whole or all(len(tensor) == 1 for tensor in tensors_of(batch)))
