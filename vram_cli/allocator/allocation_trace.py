"""A training step as the allocator sees it: storages that begin and end, in order, and the phases in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from typing import NamedTuple, Protocol

from vram_cli.records import Category, Phase


class Storage(NamedTuple):
    """Bytes that are allocated together, and what they are."""

    bytes: int
    category: Category
    op: str = ""
    module: str = ""


class Mark(Enum):
    """What a step does to the allocator itself."""

    EMPTY_CACHE = "empty_cache"
    """It gives all that is cached back to the device."""


Action = int | Phase | Mark
"""`i` allocates storage i of the tape, `~i` frees it, a phase begins, or the allocator is told something."""


@dataclass(frozen=True)
class AllocationTrace:
    """Building, the batch, and steps; the last one is that of a training that has settled, and can be played again.

    Attributes:
        carried: storages that the last step frees and does not make -> those it leaves behind in their place.
    """

    storages: tuple[Storage, ...]
    setup: tuple[Action, ...]
    steps: tuple[tuple[Action, ...], ...]
    carried: dict[int, int]

    @property
    def repeats(self) -> bool:
        """Whether the last step leaves behind what it found, and so can be played again."""
        return bool(self.steps) and len(self.carried) == len(_foreign(self.steps[-1]))


class _Life(Protocol):
    bytes: int
    born: int
    died: int | None
    category: Category | None
    op: str
    module: str


def record(lives: Sequence[_Life], marks: Iterable[tuple[int, Phase | Mark | None]]) -> AllocationTrace:
    """Make a tape of a ledger's lives.

    What is freed one after the other stands in order of birth: to an allocator it is the same, and the autocast cache
    drops its copies in the order of their addresses.

    Args:
        lives: in order of birth, on a clock that counts births and deaths.
        marks: the clock at which each phase began, the allocator was told something, or (None) a step began; the last
            None ends the last step, and what follows is left out.
    """
    timeline: list[tuple[int, int, Action | None]] = [(clock, 1, mark) for clock, mark in marks]
    timeline += [(life.born, 0, i) for i, life in enumerate(lives)]
    timeline += [(life.died, 0, ~i) for i, life in enumerate(lives) if life.died is not None]
    timeline.sort(key=lambda entry: entry[:2])
    parts: list[list[Action]] = [[]]
    for _, _, action in timeline:
        if action is None:
            parts.append([])
        else:
            parts[-1].append(action)
    storages = tuple(Storage(life.bytes, life.category or Category.TEMPORARIES, life.op, life.module) for life in lives)
    setup, *played = (tuple(_settled(actions)) for actions in parts[:-1])
    return AllocationTrace(storages, setup, tuple(played), _carried(storages, played[-1]) if played else {})


def _settled(actions: list[Action]) -> Iterator[Action]:
    """Sort each run of frees."""
    for freeing, run in groupby(actions, key=lambda action: isinstance(action, int) and action < 0):
        together = list(run)
        yield from sorted((i for i in together if isinstance(i, int)), reverse=True) if freeing else together


def _carried(storages: Sequence[Storage], step: Sequence[Action]) -> dict[int, int]:
    """Match what a step frees of the steps before with what it leaves alive, in order of birth; {} if they differ."""
    gone = sorted(_foreign(step))
    made = {action for action in step if isinstance(action, int) and action >= 0}
    left = sorted(made - {~action for action in step if isinstance(action, int) and action < 0})
    if [storages[i] for i in gone] != [storages[i] for i in left]:
        return {}
    return dict(zip(gone, left, strict=True))


def _foreign(step: Sequence[Action]) -> set[int]:
    """Return the storages that a step frees and does not make."""
    numbers = [action for action in step if isinstance(action, int)]
    return {~action for action in numbers if action < 0} - {action for action in numbers if action >= 0}


@dataclass(frozen=True)
class Line:
    """A tape for every batch size: each storage has `base` bytes and `slope` bytes a sample."""

    tape: AllocationTrace
    base: tuple[int, ...]
    slope: tuple[int, ...]

    def at(self, n: int) -> AllocationTrace:
        """Return the tape of a batch size."""
        sizes = (base + slope * n for base, slope in zip(self.base, self.slope, strict=True))
        storages = (storage._replace(bytes=size) for storage, size in zip(self.tape.storages, sizes, strict=True))
        return replace(self.tape, storages=tuple(storages))


def line_through(small: AllocationTrace, n: int, large: AllocationTrace, m: int) -> Line | None:
    """Return the line through tapes of batch sizes n < m, or None where something else differs than sizes."""
    if (small.setup, small.steps, small.carried) != (large.setup, large.steps, large.carried):
        return None
    if [storage[1:] for storage in small.storages] != [storage[1:] for storage in large.storages]:
        return None
    grown = [b.bytes - a.bytes for a, b in zip(small.storages, large.storages, strict=True)]
    if any(growth % (m - n) or growth < 0 for growth in grown):
        return None
    slope = tuple(growth // (m - n) for growth in grown)
    base = tuple(a.bytes - rise * n for a, rise in zip(small.storages, slope, strict=True))
    return Line(small, base, slope)
