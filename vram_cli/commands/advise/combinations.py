"""Sets of changes: the one with the largest batch, and the cheapest that makes a wanted batch fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from vram_cli.commands.advise.optimizations import Cost, MemoryOptimization

GAIN = 0.01
"""A change helps if the batch grows by more than this share, and by more than searches may stop below the largest."""

_MOST = 3
"""No cheapest set is looked for among larger ones: there are too many."""

Largest = Callable[[Sequence[MemoryOptimization]], int]
"""The largest batch with a set of changes; 0 where it cannot be had."""


def growing_sets(
    levers: Sequence[tuple[MemoryOptimization, int]], start: int, largest: Largest, gain: float = GAIN
) -> Iterator[tuple[list[MemoryOptimization], int]]:
    """Add the changes that help by themselves, the strongest first, as long as each makes the batch grow.

    Yields each set with its batch, which is larger than that of the one before; the last is the best. Changes that
    split the batch make no larger one fit, and are left out.

    Args:
        levers: with the largest batch that each gives by itself.
        start: the largest batch without any.
        largest: tries a set.
        gain: the share by which a batch has to grow.
    """
    helping = sorted(
        (pair for pair in levers if grows(start, pair[1], gain) and pair[0].price is not Cost.SPLIT),
        key=lambda pair: (-pair[1], pair[0].price),
    )
    chosen: list[MemoryOptimization] = []
    reached = start
    for lever, alone in helping:
        if not agrees(lever, chosen):
            continue
        size = largest([*chosen, lever]) if chosen else alone
        if grows(reached, size, gain):
            chosen, reached = [*chosen, lever], size
            yield chosen, reached


def cheapest_set(
    levers: Sequence[MemoryOptimization], fits: Callable[[Sequence[MemoryOptimization]], bool]
) -> list[MemoryOptimization] | None:
    """Return the cheapest set of at most three changes with which something fits; None where there is none."""
    return next((chosen for chosen in _by_price(levers) if fits(chosen)), None)


def grows(before: int, after: int, gain: float = GAIN) -> bool:
    """Whether a batch has grown by enough to speak of."""
    return after > before * (1 + gain)


def agrees(lever: MemoryOptimization, others: Sequence[MemoryOptimization]) -> bool:
    """Whether a change sets nothing that others set too, nor a part of it."""
    return not any(_overlap(one, two) for other in others for one in lever.keys for two in other.keys)


def _overlap(one: str, two: str) -> bool:
    return f"{one}.".startswith(f"{two}.") or f"{two}.".startswith(f"{one}.")


def _by_price(levers: Sequence[MemoryOptimization]) -> Iterator[list[MemoryOptimization]]:
    usable = [lever for lever in levers if lever.price is not Cost.SPLIT]
    sets = [list(chosen) for count in range(1, _MOST + 1) for chosen in combinations(usable, count)]
    sets = [chosen for chosen in sets if all(agrees(a, [b]) for a, b in combinations(chosen, 2))]
    yield from sorted(sets, key=lambda chosen: (sum(lever.price for lever in chosen), len(chosen)))
