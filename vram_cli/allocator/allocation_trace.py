"""A training step as the allocator sees it: allocations and frees in order, and the phases between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from typing import NamedTuple, Protocol

from vram_cli.records import Category, Phase


class Storage(NamedTuple):
    """Bytes that are allocated together, and what they are for."""

    bytes: int
    category: Category
    op: str = ""
    module: str = ""


class AllocatorCall(Enum):
    """A call that a step makes to the allocator itself."""

    EMPTY_CACHE = "empty_cache"
    """Return all cached memory to the device."""


Action = int | Phase | AllocatorCall
"""`i` allocates storage i of the trace, `~i` frees it; or a phase begins, or the allocator is called."""


@dataclass(frozen=True)
class AllocationTrace:
    """Building the model, the batch, and steps; the last step is like all later ones and can be replayed.

    Attributes:
        persistent: storages that the last step frees but did not allocate -> those it leaves alive in their place.
    """

    storages: tuple[Storage, ...]
    setup: tuple[Action, ...]
    steps: tuple[tuple[Action, ...], ...]
    persistent: dict[int, int]

    @property
    def repeats(self) -> bool:
        """Whether the last step leaves memory as it was before, and so can be replayed."""
        return bool(self.steps) and len(self.persistent) == len(_freed_from_before(self.steps[-1]))


class _Record(Protocol):
    bytes: int
    allocated_at: int
    freed_at: int | None
    category: Category | None
    op: str
    module: str


def trace_from(
    records: Sequence[_Record], markers: Iterable[tuple[int, Phase | AllocatorCall | None]]
) -> AllocationTrace:
    """Build a trace from a tracker's records.

    Consecutive frees are sorted by the order of allocation: to an allocator they are equivalent, and the autocast cache
    drops its copies in the order of their addresses.

    Args:
        records: storages in order of allocation, on a clock that counts allocations and frees.
        markers: the clock at which each phase began, the allocator was called, or (None) a step began; the last None
            ends the last step, and everything after it is dropped.
    """
    timeline: list[tuple[int, int, Action | None]] = [(clock, 1, marker) for clock, marker in markers]
    timeline += [(record.allocated_at, 0, i) for i, record in enumerate(records)]
    timeline += [(record.freed_at, 0, ~i) for i, record in enumerate(records) if record.freed_at is not None]
    timeline.sort(key=lambda entry: entry[:2])
    parts: list[list[Action]] = [[]]
    for _, _, action in timeline:
        if action is None:
            parts.append([])
        else:
            parts[-1].append(action)
    storages = tuple(
        Storage(record.bytes, record.category or Category.TEMPORARIES, record.op, record.module) for record in records
    )
    setup, *steps = (tuple(_with_sorted_frees(actions)) for actions in parts[:-1])
    return AllocationTrace(storages, setup, tuple(steps), _persistent(storages, steps[-1]) if steps else {})


def _with_sorted_frees(actions: list[Action]) -> Iterator[Action]:
    """Sort each run of consecutive frees."""
    for frees, run in groupby(actions, key=lambda action: isinstance(action, int) and action < 0):
        group = list(run)
        yield from sorted((i for i in group if isinstance(i, int)), reverse=True) if frees else group


def _persistent(storages: Sequence[Storage], step: Sequence[Action]) -> dict[int, int]:
    """Match storages of earlier steps that a step frees with those that it leaves alive; {} if they differ."""
    freed = sorted(_freed_from_before(step))
    allocated = {action for action in step if isinstance(action, int) and action >= 0}
    left = sorted(allocated - {~action for action in step if isinstance(action, int) and action < 0})
    if [storages[i] for i in freed] != [storages[i] for i in left]:
        return {}
    return dict(zip(freed, left, strict=True))


def _freed_from_before(step: Sequence[Action]) -> set[int]:
    """Return the storages that a step frees but did not allocate."""
    numbers = [action for action in step if isinstance(action, int)]
    return {~action for action in numbers if action < 0} - {action for action in numbers if action >= 0}


@dataclass(frozen=True)
class LinearTrace:
    """The traces of all batch sizes: storage i has `base[i]` bytes plus `slope[i]` bytes per sample."""

    trace: AllocationTrace
    base: tuple[int, ...]
    slope: tuple[int, ...]

    def at(self, n: int) -> AllocationTrace:
        """Return the trace of a batch size."""
        sizes = (base + slope * n for base, slope in zip(self.base, self.slope, strict=True))
        storages = (storage._replace(bytes=size) for storage, size in zip(self.trace.storages, sizes, strict=True))
        return replace(self.trace, storages=tuple(storages))


def linear_trace(small: AllocationTrace, n: int, large: AllocationTrace, m: int) -> LinearTrace | None:
    """Return the line through the traces of batch sizes n < m, or None if they differ in more than sizes."""
    if (small.setup, small.steps, small.persistent) != (large.setup, large.steps, large.persistent):
        return None
    if [storage[1:] for storage in small.storages] != [storage[1:] for storage in large.storages]:
        return None
    growths = [b.bytes - a.bytes for a, b in zip(small.storages, large.storages, strict=True)]
    if any(growth % (m - n) or growth < 0 for growth in growths):
        return None
    slopes = tuple(growth // (m - n) for growth in growths)
    bases = tuple(storage.bytes - slope * n for storage, slope in zip(small.storages, slopes, strict=True))
    return LinearTrace(small, bases, slopes)
