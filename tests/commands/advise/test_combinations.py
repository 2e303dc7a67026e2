"""Combinations of changes: the best is no worse than any single change, and no cheaper one than the cheapest fits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.commands.advise.combinations import (
    MIN_GAIN,
    cheapest_combination,
    growing_combinations,
    grows,
    is_compatible,
)
from vram_cli.commands.advise.memory_optimization import Cost, MemoryOptimization


def change(name: str, cost: Cost = Cost.NOTHING, *overrides: str) -> MemoryOptimization:
    return MemoryOptimization(name, overrides or (f"train.{name}=true",), cost)


CHANGES = st.lists(
    st.builds(
        lambda key, cost: change(f"{key}{cost.value}", cost, f"train.{key}={cost.value}"),
        st.sampled_from("abcdef"),
        st.sampled_from(Cost),
    ),
    max_size=7,
    unique_by=lambda optimization: optimization.name,
)


def total_cost(combination: Sequence[MemoryOptimization]) -> int:
    return sum(optimization.cost for optimization in combination)


# The largest batch


@given(CHANGES, st.data())
def test_best_combination_is_no_worse_than_a_single_change(
    optimizations: list[MemoryOptimization], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, 500))
    alone = [(one, data.draw(st.integers(0, 1000))) for one in optimizations]

    def largest(combination: Sequence[MemoryOptimization]) -> int:
        return data.draw(st.integers(0, 1000))

    steps = list(growing_combinations(alone, start, largest))
    helpful = [size for one, size in alone if not one.cost.adds_batches and grows(start, size)]
    assert bool(steps) is bool(helpful)
    if steps:
        combination, size = steps[-1]
        assert size >= max(helpful)
        assert all(is_compatible(a, [b]) for a, b in combinations(combination, 2))
        assert not any(one.cost.adds_batches for one in combination)
        sizes = [start, *(size for _, size in steps)]
        assert all(grows(before, after) for before, after in pairwise(sizes))


def test_changes_are_added_while_each_helps() -> None:
    half, third, nothing, worse = (change(name) for name in ("half", "third", "nothing", "worse"))
    tried: list[list[str]] = []

    def largest(combination: Sequence[MemoryOptimization]) -> int:
        names = [one.name for one in combination]
        tried.append(names)
        return 100 * (2 if "half" in names else 1) + (50 if "third" in names else 0) - (10 if "worse" in names else 0)

    alone = [(nothing, 100), (third, 150), (worse, 102), (half, 200)]
    steps = [
        ([one.name for one in combination], size) for combination, size in growing_combinations(alone, 100, largest)
    ]
    assert steps == [(["half"], 200), (["half", "third"], 250)]
    assert tried == [["half", "third"], ["half", "third", "worse"]]  # "nothing" does not help on its own


def test_larger_gain_wins_for_the_same_key() -> None:
    weak, strong = change("weak", Cost.NOTHING, "precision=a"), change("strong", Cost.NOTHING, "precision=b")
    steps = list(growing_combinations([(weak, 150), (strong, 200)], 100, lambda _: pytest.fail("tried both")))
    assert steps == [([strong], 200)]


def test_cheaper_change_wins_for_the_same_gain() -> None:
    expensive, cheap = change("expensive", Cost.COMPUTE, "a=1"), change("cheap", Cost.NOTHING, "a=2")
    assert list(growing_combinations([(expensive, 200), (cheap, 200)], 100, lambda _: 0)) == [([cheap], 200)]


def test_more_batches_per_step_are_left_out() -> None:
    for cost in (Cost.ACCUMULATION, Cost.GPUS):
        assert not list(growing_combinations([(change("more batches", cost), 200)], 100, lambda _: 400))


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(100, 101, False), (100, 102, True), (0, 1, True), (0, 0, False), (20, 21, True)]
)
def test_grows(before: int, after: int, expected: bool) -> None:
    assert MIN_GAIN == 0.01
    assert grows(before, after) is expected


# The cheapest combination


@given(CHANGES, st.data())
def test_cheapest_combination(optimizations: list[MemoryOptimization], data: st.DataObject) -> None:
    saves = {one.name: data.draw(st.integers(-40, 100)) for one in optimizations}
    needed = data.draw(st.integers(1, 250))
    tried: list[list[MemoryOptimization]] = []

    def fits(combination: Sequence[MemoryOptimization]) -> bool:
        tried.append(list(combination))
        return sum(saves[one.name] for one in combination) >= needed

    cheapest = cheapest_combination(optimizations, fits)
    candidates = [one for one in optimizations if not one.cost.adds_batches]
    possible = [
        list(combination)
        for count in (1, 2, 3)
        for combination in combinations(candidates, count)
        if all(is_compatible(a, [b]) for a, b in combinations(combination, 2))
    ]
    sufficient = [combination for combination in possible if sum(saves[one.name] for one in combination) >= needed]
    assert (cheapest is None) is (not sufficient)
    assert all(combination in possible for combination in tried)
    if cheapest is not None:
        assert cheapest in sufficient
        assert total_cost(cheapest) == min(map(total_cost, sufficient))
        assert not any(set(combination) < set(cheapest) for combination in sufficient)


def test_combinations_are_tried_in_order_of_cost() -> None:
    optimizations = [change("a"), change("b", Cost.PRECISION), change("c", Cost.COMPUTE)]
    tried = []

    def fits(combination: Sequence[MemoryOptimization]) -> bool:
        tried.append([one.name for one in combination])
        return len(combination) == 2

    cheapest = cheapest_combination(optimizations, fits)
    assert [one.name for one in cheapest or []] == ["a", "b"]
    assert tried == [["a"], ["b"], ["a", "b"]]  # 1, 3, 1 + 3; the next would be c, for 6


# Compatible changes


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("precision=amp-bf16", "precision=amp-fp16", False),
        ("optimizer.name=sgd", "device.name=cpu", True),  # a key of the same name in another section
        ("optimizer.name=sgd", "optimizer.fused=true", True),
        ("optimizer={name: sgd}", "optimizer.fused=true", False),  # the whole section against a key of it
        ("model.kwargs={}", "model.kwargs.depth=3", False),
        ("train.freeze=[a]", "train.freeze_more=[a]", True),
        ("train.ema = true", "train.ema=false", False),
    ],
)
def test_is_compatible(one: str, other: str, expected: bool) -> None:
    first, second = change("one", Cost.NOTHING, one), change("other", Cost.NOTHING, "search.steps=2", other)
    assert is_compatible(first, [second]) is is_compatible(second, [first]) is expected
    assert is_compatible(first, [])
