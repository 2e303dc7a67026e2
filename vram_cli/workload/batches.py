"""Batches of any structure: their tensors, their length, and how they are moved."""

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
    """Return what a part of a batch is made of, by key, field or position; None for a leaf."""
    if isinstance(batch, Mapping):
        return dict(batch.items())
    if isinstance(batch, (list, tuple)):
        return dict(zip(getattr(batch, "_fields", range(len(batch))), batch, strict=True))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return None


def rebuild(batch: Batch, parts: Parts) -> Batch:
    """Return a part of a batch, of the same class, made of other parts."""
    if isinstance(batch, (list, tuple)):
        return type(batch)(*parts.values()) if hasattr(batch, "_fields") else type(batch)(parts.values())
    if isinstance(batch, Mapping) and not isinstance(batch, MutableMapping):
        return parts
    made = copy.copy(batch)
    for key, part in parts.items():
        if isinstance(batch, Mapping):
            made[key] = part
        else:
            object.__setattr__(made, key, part)  # a frozen dataclass as well
    return made


def leaves_of(batch: Batch) -> Iterator[Any]:
    """Return all that a batch holds, tensors or not."""
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
    """Return the batch on the device; what is float32 becomes the dtype of the weights."""
    return _mapped(batch, lambda tensor: tensor.to(device, dtype if tensor.dtype is torch.float32 else tensor.dtype))


def channels_last(batch: Batch) -> Batch:
    """Return the batch with images, that is tensors of four dimensions, laid out with the channels last."""
    layout = torch.channels_last
    return _mapped(batch, lambda tensor: tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor)


def _mapped(batch: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    if isinstance(batch, torch.Tensor):
        return change(batch)
    parts = parts_of(batch)
    return batch if parts is None else rebuild(batch, {key: _mapped(part, change) for key, part in parts.items()})


def lengths_of(batch: Batch, *, is_whole: bool = True) -> set[int]:
    """Return how many samples the parts of a batch have: rows of a tensor, elements of a list or of an inner tuple."""
    if isinstance(batch, torch.Tensor):
        return {len(batch)} if batch.dim() else set()
    if isinstance(batch, list):
        return {len(batch)}
    own = {len(batch)} if isinstance(batch, tuple) and not is_whole else set()
    parts = (parts_of(batch) or {}).values()
    return own.union(*(lengths_of(part, is_whole=False) for part in parts))


def sample_in(batch: Batch) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    """Return where each tensor lies in a batch of one sample, its sizes without the batch's own, and its dtype."""
    for name, tensor, has_rows in _named(batch, "", has_rows=True, is_whole=True):
        yield name or "batch", tuple(tensor.shape[1:] if has_rows else tensor.shape), tensor.dtype


def _named(
    batch: Batch, path: str, *, has_rows: bool, is_whole: bool = False
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    if isinstance(batch, torch.Tensor):
        yield path, batch, has_rows
    elif has_rows and _is_list_of_one(batch, is_whole=is_whole):
        yield from _named(batch[0], path, has_rows=False)
    else:
        for key, part in (parts_of(batch) or {}).items():
            name = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
            yield from _named(part, path + name, has_rows=has_rows)


def _is_list_of_one(batch: Batch, *, is_whole: bool) -> bool:
    """Whether this holds one sample as such, and not the fields of a batch: those would have one row each."""
    if not isinstance(batch, (list, tuple)) or len(batch) != 1:
        return False
    return isinstance(batch, list) or not (is_whole or all(len(tensor) == 1 for tensor in tensors_of(batch)))
