"""Several ranks: how they train together, and which of them the figures are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["ddp", "fsdp2"]


@dataclass(frozen=True, kw_only=True)
class ParallelInfo:
    """Several ranks that train together, each on a GPU of its own. A batch size is that of one rank."""

    strategy: Strategy | None
    """None if a script decides."""
    ranks: int
    micro_batches: int = 1
    """Micro-batches of each rank that an optimizer step accumulates."""
    rank: int = 0
    """The rank that the figures are of: no other one holds more."""
    communication_bytes: int = 0
    """NCCL's own memory, outside PyTorch's allocator, in a prediction."""
    is_allowance: bool = False
    """Whether `communication_bytes` is an allowance: what others measured, on other machines."""
