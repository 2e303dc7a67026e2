"""Storages that ranks share: buffers of collectives, and parameters that FSDP2 gathers and frees in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from vram_cli.records import Category

Found = Iterator[tuple[torch.Tensor, Category]]

_FOR_GOOD = (Category.GRADIENTS, Category.REDUCE_SCATTER_BUFFERS)
"""What an all-reduce leaves as it is: gradients that are views of their bucket, and shards that replicas average."""


def is_collective(operation: Any) -> bool:
    """Return whether an operation exchanges tensors between ranks."""
    return getattr(operation, "namespace", "") == "c10d"


def buffers_of(operation: Any, args: Sequence[Any], category_of: Callable[[torch.Tensor], Category | None]) -> Found:
    """Yield the buffers of a collective with their categories.

    FSDP2 calls `_allgather_base_(output, input)` and `_reduce_scatter_base_(output, input)`, DDP `allreduce_(buckets)`.
    """
    name = operation.__name__.partition(".")[0]
    if name == "_allgather_base_":
        yield args[0], Category.GATHERED_PARAMETERS
    elif name == "_reduce_scatter_base_":
        yield from ((buffer, Category.REDUCE_SCATTER_BUFFERS) for buffer in args[:2])
    elif name == "allreduce_":
        for bucket in tree_leaves(args[0]):
            if category_of(bucket) not in _FOR_GOOD:
                yield bucket, Category.GRADIENT_BUCKETS


@contextmanager
def following_resizes(on_resize: Callable[[torch.UntypedStorage], None]) -> Iterator[None]:
    """Call a function after each resize of a storage: FSDP2 frees gathered parameters so (free_storage), and no
    storage dies.
    """
    resize = torch.UntypedStorage.resize_

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        resized = resize(storage, size)
        on_resize(storage)
        return resized

    torch.UntypedStorage.resize_ = resize_  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
