"""Batches of any structure: their tensors, their length, and moving them to a device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

Batch = Any
"""Tensors in tuples, lists, mappings, dataclasses and objects that have a `to`.

(inputs, targets) is for a loss, anything else for the model.

A list, and a tuple within a batch, may hold one sample after the other, as batches for detection do.
"""

Parts = dict[Any, Any]

_NO_BATCHES = (type, torch.Tensor, torch.nn.Module)
_SPARSE_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_SPARSE_COLUMNS = (torch.sparse_csc, torch.sparse_bsc)


def parts_of(batch: Batch) -> Parts | None:
    """Return the parts of a batch or of a part, by key, field or position; None for a leaf."""
    if isinstance(batch, Mapping):
        return dict(batch.items())
    if isinstance(batch, (list, tuple)):
        return dict(zip(getattr(batch, "_fields", range(len(batch))), batch, strict=True))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    # A batch of a library, such as torch_geometric's, or of the user's own.
    is_batch = hasattr(batch, "to") and hasattr(batch, "__dict__") and not isinstance(batch, _NO_BATCHES)
    return dict(vars(batch)) if is_batch else None


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
    """Return all tensors of a batch; for sparse and nested ones, the tensors that they consist of."""
    return [part for leaf in leaves_of(batch) if isinstance(leaf, torch.Tensor) for part in _plain_tensors(leaf)]


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is neither sparse nor nested, so that it has one storage and whole sizes."""
    return tensor.layout is torch.strided and not tensor.is_nested


def _plain_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    if is_plain(tensor):
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in _SPARSE_ROWS:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in _SPARSE_COLUMNS:
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    if tensor.layout is torch.jagged:
        return [tensor.values(), tensor.offsets()]  # type: ignore[attr-defined]
    return [tensor.values()] if tensor.is_nested else [tensor]


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Return the batch on the device; float32 tensors become `dtype`, that of the weights."""
    return map_tensors(
        batch, lambda tensor: tensor.to(device, dtype if tensor.dtype is torch.float32 else tensor.dtype)
    )


def channels_last(batch: Batch) -> Batch:
    """Return the batch with images, that is tensors of four dimensions, in the channels-last memory format."""

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        is_image = tensor.dim() == 4 and is_plain(tensor)
        return tensor.contiguous(memory_format=torch.channels_last) if is_image else tensor

    return map_tensors(batch, convert)


def map_tensors(batch: Batch, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """Return the batch with each tensor replaced; sparse and nested ones are replaced as a whole."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    parts = parts_of(batch)
    if parts is None:
        return batch
    # The lengths of packed sequences stay on the CPU, where PyTorch reads them.
    stays = ("batch_sizes",) if isinstance(batch, PackedSequence) else ()
    return rebuild(batch, {key: part if key in stays else map_tensors(part, function) for key, part in parts.items()})


def lengths_of(batch: Batch, *, is_whole: bool = True) -> set[int]:
    """Return the numbers of samples of a batch's parts.

    They are the rows of a tensor, the elements of a list or of an inner tuple, and the samples that an index counts:
    samples of a graph are concatenated, and packed texts too.
    """
    if isinstance(batch, torch.Tensor):
        return {batch.size(0)} if batch.dim() else set()
    if isinstance(batch, list):
        return {len(batch)}
    if isinstance(batch, PackedSequence):
        return {int(batch.batch_sizes[0])}
    lengths = {len(batch)} if isinstance(batch, tuple) and not is_whole else set()
    for name, part in (parts_of(batch) or {}).items():
        lengths |= lengths_of(part, is_whole=False) | _indexed_samples(str(name), part)
    return lengths


def _indexed_samples(name: str, part: Any) -> set[int]:
    """Return the number of samples by an index of a batch: the sample of each row, or where each sample begins."""
    if isinstance(part, int):
        return {part} if name.strip("_") in ("num_graphs", "batch_size") else set()
    if not isinstance(part, torch.Tensor) or part.is_floating_point() or part.is_meta:
        return set()
    if part.dim() != 1 or not len(part):
        return set()
    if int(part[0]) != 0 or not bool((part[1:] >= part[:-1]).all()):
        return set()
    if name == "batch" or name.endswith("_batch"):
        return {int(part[-1]) + 1}
    return {len(part) - 1} if name == "ptr" or name.startswith(("cu_seqlens", "cu_seq_lens")) else set()


def sample_tensors(batch: Batch, n: int = 1) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    """Return the path of each tensor in a batch of n samples, its sizes without the batch dimension, and its dtype."""
    for path, tensor, has_rows in _tensors_by_path(batch, "", n, has_rows=True, is_whole=True):
        # Rows that are not samples stay: two views of a sample, its words, or a batch dimension that is the second.
        is_row = has_rows and tensor.dim() > 0 and tensor.size(0) == n
        shape = tensor.unbind()[0].shape if tensor.is_nested or is_row else tensor.shape
        yield path or "batch", tuple(shape), tensor.dtype


def _tensors_by_path(
    batch: Batch, path: str, n: int, *, has_rows: bool, is_whole: bool = False
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    if isinstance(batch, torch.Tensor):
        yield path, batch, has_rows
    elif has_rows and _is_list_of_samples(batch, n, is_whole=is_whole):
        yield from _tensors_by_path(batch[0], path, n, has_rows=False)
    else:
        for key, part in (parts_of(batch) or {}).items():
            name = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
            yield from _tensors_by_path(part, path + name, n, has_rows=has_rows)


def _is_list_of_samples(batch: Batch, n: int, *, is_whole: bool) -> bool:
    """Whether this holds samples as such, and not the fields of a batch, which would have n rows each."""
    if not isinstance(batch, (list, tuple)) or len(batch) != n or isinstance(batch, PackedSequence):
        return False
    has_rows = all(tensor.dim() and tensor.size(0) == n for tensor in tensors_of(batch))
    return not has_rows if n > 1 else isinstance(batch, list) or not (is_whole or has_rows)
