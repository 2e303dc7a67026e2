"""Let a script train as the first of several ranks of which no other exists.

Its groups wait for nobody. On the GPU, NCCL's stand-in answers; on the CPU and for objects, every rank holds what this
one does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.distributed.rendezvous import _rendezvous_handlers

from vram_cli.probe.scripts.ranks import variables_of_rank
from vram_cli.probe.worker.ranks import AbsentRanks

_STORES: list[AbsentRanks] = []
"""Stores of groups: PyTorch calls their methods, but does not keep the objects that have them."""


def stand_for_others(ranks: int, local_ranks: int) -> None:
    """Make this process the first of several ranks, before it runs a script. Nothing takes this back.

    Args:
        ranks: those of all machines.
        local_ranks: those of one machine, each with a GPU, as far as the script can tell.
    """
    os.environ.update(variables_of_rank(ranks, local_ranks))
    os.environ["TORCH_NCCL_ENABLE_MONITORING"] = "0"  # no thread that ends the process if a step takes long
    properties = torch.cuda.get_device_properties
    torch.cuda.device_count = lambda: local_ranks
    torch.cuda.get_device_properties = lambda *_: properties(0)  # all GPUs are of one kind
    _rendezvous_handlers["env"] = lambda *_, **__: iter([(_store(ranks), 0, ranks)])
    distributed_c10d.ProcessGroupGloo = _AbsentGloo  # type: ignore[misc, assignment]
    _replace("init_process_group", _joining(dist.init_process_group, ranks))
    for function in (all_gather_object, gather_object, broadcast_object_list, scatter_object_list, monitored_barrier):
        _replace(function.__name__, function)


class _AbsentGloo(distributed_c10d.ProcessGroupGloo):
    """Makes groups for tensors of the CPU that exchange nothing: PyTorch's own, for programs without other ranks."""

    def __new__(cls, store: Any, rank: int, ranks: int, *_: Any, **__: Any) -> Any:  # noqa: ARG004
        from torch._C import _distributed_c10d

        FakeProcessGroup: Any = _distributed_c10d.FakeProcessGroup  # noqa: N806
        if not hasattr(FakeProcessGroup, "_create_internal"):  # before PyTorch 2.9
            return FakeProcessGroup(rank, ranks)
        return FakeProcessGroup._create_internal(rank, ranks, FakeProcessGroup.Options())


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:  # noqa: ARG001
    """Gather the same object from every rank."""
    object_list[:] = [obj] * len(object_list)


def gather_object(obj: Any, object_gather_list: list[Any] | None = None, *_: Any, **__: Any) -> None:
    """Gather the same object from every rank."""
    if object_gather_list is not None:
        object_gather_list[:] = [obj] * len(object_gather_list)


def broadcast_object_list(object_list: list[Any], *_: Any, **__: Any) -> None:
    """Leave the objects as they are: every rank has them."""


def scatter_object_list(output: list[Any], objects: list[Any] | None = None, *_: Any, **__: Any) -> None:
    """Take the first object, which is for this rank."""
    if objects:
        output[0] = objects[0]


def monitored_barrier(*_: Any, **__: Any) -> None:
    """Return at once."""


def _joining(init_process_group: Callable[..., None], ranks: int) -> Callable[..., None]:
    """Return `init_process_group` that waits for nobody, and binds no device: groups would be split from each other,
    and only the other ranks know how."""

    @wraps(init_process_group)
    def init(backend: str | None = None, init_method: str | None = None, *arguments: Any, **options: Any) -> None:  # noqa: ARG001
        names = ("timeout", "world_size", "rank", "store", "group_name", "pg_options", "device_id")
        given = {**dict(zip(names, arguments, strict=False)), **options}
        given.pop("device_id", None)
        given |= {"store": _store(ranks), "rank": 0, "world_size": ranks}
        init_process_group(backend, **given)

    return init


def _store(ranks: int) -> AbsentRanks:
    _STORES.append(AbsentRanks(ranks))
    return _STORES[-1]


def _replace(name: str, function: Callable[..., Any]) -> None:
    for module in (dist, distributed_c10d):
        setattr(module, name, function)
