"""The process group of a rank: with the other ranks, or alone if they do not exist."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, PrefixStore, Store, TCPStore

from vram_cli.probe.messages import RankPlace
from vram_cli.workload.parallel import leave_group

_UNIQUE_ID = bytes([7]) * 128
"""The identity of a communicator, ncclUniqueId: any will do where nobody else joins it."""


_STORES: list[Store] = []
"""The store of the group: PyTorch calls its methods, but does not keep the object that has them."""


class AbsentRanks(Store):
    """A store that answers for ranks that do not exist, and so never waits for one."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self._ranks = ranks
        self._values: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self._values[key] = value

    def get(self, key: str) -> Any:
        """Return a value; that which another rank would have set is the identity of a communicator."""
        return self._values.get(key, _UNIQUE_ID)

    def add(self, key: str, amount: int) -> int:  # noqa: ARG002 - the interface of a store
        """Return that every rank has arrived at a barrier."""
        return self._ranks

    def check(self, keys: list[str]) -> bool:
        """Return whether values are known: no other rank ever asks for a dump of its state."""
        return all(key in self._values for key in keys)

    def wait(self, *_: Any) -> None:
        """Return at once."""


def join_group(place: RankPlace, device: torch.device, timeout: float) -> None:
    """Make this process a rank of a group whose other ranks exist, and wait for them.

    Args:
        place: its place, and the store at which all of them meet.
        device: its device, which decides about the backend.
        timeout: seconds after which a rank that waits for another raises.
    """
    backend = dist.get_default_backend_for_device(device)
    dist.init_process_group(
        backend,
        store=_store(place.store, place.ranks),
        rank=place.rank,
        world_size=place.ranks,
        timeout=timedelta(seconds=timeout),
    )


def _store(address: str, ranks: int) -> Store:
    kind, _, place = address.partition(":")
    if kind == "file":
        return FileStore(place, ranks)
    server, _, prefix = place.partition("/")
    host, _, port = server.rpartition(":")
    return PrefixStore(prefix, TCPStore(host, int(port), is_master=False))


def join_absent_ranks(ranks: int, rank: int) -> None:
    """Make this process one rank of a group that NCCL's stand-in answers for."""
    _STORES[:] = [AbsentRanks(ranks)]
    os.environ["TORCH_NCCL_ENABLE_MONITORING"] = "0"  # no thread that ends the process if a step takes long
    dist.init_process_group("nccl", store=_STORES[0], rank=rank, world_size=ranks)
    atexit.unregister(leave_group)
    atexit.register(leave_group)
