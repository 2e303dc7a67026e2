"""A launch by torchrun: what it tells each process, and the store at which these meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Launch(NamedTuple):
    """What torchrun tells a process that it starts, by environment variables (docs.pytorch.org, Elastic, "Run")."""

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    host: str
    port: int
    prefix: str
    """Prefix of keys in the store, which several starts of a launcher may share."""
    has_store: bool
    """Whether the launcher hosts the store; if not, rank 0 does."""

    def open_store(self) -> Any:
        """Return a connection to the store, which serves keys below the prefix."""
        from torch._C._distributed_c10d import PrefixStore, TCPStore  # seconds that only a launched process needs

        is_master = self.rank == 0 and not self.has_store
        return PrefixStore(self.prefix, TCPStore(self.host, self.port, is_master=is_master, wait_for_workers=False))


def launch_of(variables: Mapping[str, str]) -> Launch | None:
    """Return what torchrun tells a process with these variables; None if it is not one of several."""
    if "TORCHELASTIC_RUN_ID" not in variables or int(variables.get("WORLD_SIZE", "1")) == 1:
        return None
    return Launch(
        rank=int(variables["RANK"]),
        ranks=int(variables["WORLD_SIZE"]),
        local_rank=int(variables["LOCAL_RANK"]),
        local_ranks=int(variables["LOCAL_WORLD_SIZE"]),
        host=variables["MASTER_ADDR"],
        port=int(variables["MASTER_PORT"]),
        prefix=f"vram/{variables.get('TORCHELASTIC_RESTART_COUNT', '0')}",
        has_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )
