"""Combinations of changes: the one with the largest batch, and the cheapest one that makes a given batch fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from vram_cli.commands.advise.memory_optimization import MemoryOptimization

MIN_GAIN = 0.01
"""A change helps if the batch grows by more than this share, and by more than the tolerance of the search."""

_MAX_CHANGES = 3
"""Changes in a cheapest combination; there are too many larger ones to try."""

LargestBatch = Callable[[Sequence[MemoryOptimization]], int]
"""The largest batch size with a combination of changes; 0 if nothing fits or they cannot be made."""


def growing_combinations(
    optimizations: Sequence[tuple[MemoryOptimization, int]],
    unchanged: int,
    largest_batch: LargestBatch,
    min_gain: float = MIN_GAIN,
) -> Iterator[tuple[list[MemoryOptimization], int]]:
    """Add the changes that help on their own, the strongest first, as long as each makes the batch grow.

    Yields each combination with its largest batch size, which grows from one to the next: the last is the best.
    Gradient accumulation and more ranks make no larger micro-batch fit, and are left out.

    Args:
        optimizations: changes with the largest batch size of each on its own.
        unchanged: the largest batch size without changes.
        largest_batch: tries a combination.
        min_gain: the share by which the batch has to grow.
    """
    helpful = sorted(
        (pair for pair in optimizations if grows(unchanged, pair[1], min_gain) and not pair[0].cost.adds_batches),
        key=lambda pair: (-pair[1], pair[0].cost),
    )
    combination: list[MemoryOptimization] = []
    largest = unchanged
    for optimization, size_alone in helpful:
        if not is_compatible(optimization, combination):
            continue
        size = largest_batch([*combination, optimization]) if combination else size_alone
        if grows(largest, size, min_gain):
            combination, largest = [*combination, optimization], size
            yield combination, largest


def cheapest_combination(
    optimizations: Sequence[MemoryOptimization], fits: Callable[[Sequence[MemoryOptimization]], bool]
) -> list[MemoryOptimization] | None:
    """Return the cheapest combination of at most three changes that fits; None if there is none."""
    return next((combination for combination in _by_cost(optimizations) if fits(combination)), None)


def grows(before: int, after: int, min_gain: float = MIN_GAIN) -> bool:
    """Return whether a batch size grows by more than `min_gain`."""
    return after > before * (1 + min_gain)


def is_compatible(optimization: MemoryOptimization, others: Sequence[MemoryOptimization]) -> bool:
    """Return whether a change sets no key that another one sets, nor a part of such a key."""
    return not any(
        _overlap(key, other_key) for other in others for key in optimization.keys for other_key in other.keys
    )


def _overlap(first: str, second: str) -> bool:
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _by_cost(optimizations: Sequence[MemoryOptimization]) -> Iterator[list[MemoryOptimization]]:
    candidates = [optimization for optimization in optimizations if not optimization.cost.adds_batches]
    compatible = [
        list(combination)
        for count in range(1, _MAX_CHANGES + 1)
        for combination in combinations(candidates, count)
        if all(is_compatible(first, [second]) for first, second in combinations(combination, 2))
    ]
    yield from sorted(compatible, key=lambda changes: (sum(change.cost for change in changes), len(changes)))
