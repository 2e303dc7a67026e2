"""From figures to places in a chart: stacks without gaps, and round ticks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, count
from typing import NamedTuple


class Tick(NamedTuple):
    """A line across a chart, or a place on its edge, with what stands beside it."""

    at: str
    """From the left or from the top, in percent."""
    label: str


def edges(sizes: Iterable[int], total: int, room: int) -> list[int]:
    """Return where each of a stack of sizes ends, where `total` fills `room`.

    Sums are rounded rather than sizes: the stack has no gaps, and ends where its sum does.
    """
    ends = accumulate(max(size, 0) for size in sizes)
    return [min((2 * end * room + total) // (2 * total), room) if total > 0 else 0 for end in ends]


def percent(part: float, whole: float) -> str:
    """Return a place in a chart, such as "33.33%"."""
    return f"{100 * part / whole if whole else 0:.2f}%"


def byte_ticks(highest: int) -> list[int]:
    """Return three to six steps of a power of two, from 0 on: memory comes in such sizes."""
    step = 1 << max((highest // 3).bit_length() - 1, 0)
    return list(range(0, highest + 1, step))


def count_ticks(highest: int) -> list[int]:
    """Return up to four steps of 1, 2 or 5 times a power of ten, from 0 on."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = next(step for step in steps if highest // step <= 4)
    return list(range(0, highest + 1, step))
