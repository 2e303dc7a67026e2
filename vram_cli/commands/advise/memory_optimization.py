"""A change of the config that may save memory, and its cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Cost(IntEnum):
    """The cost of a change; of the combinations that fit, the one with the smallest sum is preferred."""

    NOTHING = 1
    PRECISION = 3
    """Lower numerical precision."""
    RESTRICTION = 4
    """Rules out another option."""
    COMMUNICATION = 5
    """More communication among ranks."""
    COMPUTE = 6
    """More computation per step."""
    ACCUMULATION = 20
    """More micro-batches per optimizer step."""
    TUNING = 30
    """Another optimizer, or a change that the user requests: it may need other hyperparameters."""
    GPUS = 40
    """More GPUs."""

    @property
    def adds_batches(self) -> bool:
        """Whether a step has more batches, each with the memory of its own, so that none of them need be larger."""
        return self in (Cost.ACCUMULATION, Cost.GPUS)


@dataclass(frozen=True)
class MemoryOptimization:
    """A change of the config that may save memory."""

    name: str
    overrides: tuple[str, ...]
    cost: Cost
    cost_text: str = ""
    """The cost in words."""

    @property
    def keys(self) -> frozenset[str]:
        """The config keys that it sets. Another strategy replaces the keys of `parallel` that go with the old one."""
        keys = {override.partition("=")[0].strip() for override in self.overrides}
        return frozenset("parallel" if key == "parallel.strategy" else key for key in keys)
