"""Sets of changes: the best is no worse than any one change, the cheapest has no cheaper subset that would do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.commands.advise.combinations import GAIN, agrees, cheapest_set, growing_sets, grows
from vram_cli.commands.advise.optimizations import Cost, MemoryOptimization


def lever(name: str, price: Cost = Cost.NOTHING, *sets: str) -> MemoryOptimization:
    return MemoryOptimization(name, sets or (f"train.{name}=true",), price)


LEVERS = st.lists(
    st.builds(
        lambda key, price: lever(f"{key}{price.value}", price, f"train.{key}={price.value}"),
        st.sampled_from("abcdef"),
        st.sampled_from(Cost),
    ),
    max_size=7,
    unique_by=lambda made: made.name,
)


def price(levers: Sequence[MemoryOptimization]) -> int:
    return sum(one.price for one in levers)


# The best set


@given(LEVERS, st.data())
def test_the_best_set_is_never_worse_than_a_single_change(
    levers: list[MemoryOptimization], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, 500))
    alone = [(one, data.draw(st.integers(0, 1000))) for one in levers]

    def largest(chosen: Sequence[MemoryOptimization]) -> int:
        return data.draw(st.integers(0, 1000))

    sets = list(growing_sets(alone, start, largest))
    helping = [size for one, size in alone if one.price is not Cost.SPLIT and grows(start, size)]
    assert bool(sets) is bool(helping)
    if sets:
        chosen, size = sets[-1]
        assert size >= max(helping)
        assert all(agrees(a, [b]) for a, b in combinations(chosen, 2))
        assert not any(one.price is Cost.SPLIT for one in chosen)
        sizes = [start, *(reached for _, reached in sets)]
        assert all(grows(before, after) for before, after in pairwise(sizes))


def test_changes_are_added_as_long_as_each_helps() -> None:
    half, third, nothing, worse = (lever(name) for name in ("half", "third", "nothing", "worse"))
    asked: list[list[str]] = []

    def largest(chosen: Sequence[MemoryOptimization]) -> int:
        names = [one.name for one in chosen]
        asked.append(names)
        return 100 * (2 if "half" in names else 1) + (50 if "third" in names else 0) - (10 if "worse" in names else 0)

    alone = [(nothing, 100), (third, 150), (worse, 102), (half, 200)]
    sets = [([one.name for one in chosen], size) for chosen, size in growing_sets(alone, 100, largest)]
    assert sets == [(["half"], 200), (["half", "third"], 250)]
    assert asked == [["half", "third"], ["half", "third", "worse"]]  # what does not help by itself is not tried


def test_of_two_settings_of_one_key_the_stronger_is_taken() -> None:
    weak, strong = lever("weak", Cost.NOTHING, "precision=a"), lever("strong", Cost.NOTHING, "precision=b")
    sets = list(growing_sets([(weak, 150), (strong, 200)], 100, lambda _: pytest.fail("tried both")))
    assert sets == [([strong], 200)]


def test_of_two_that_do_the_same_the_cheaper_is_taken() -> None:
    dear, cheap = lever("dear", Cost.COMPUTE, "a=1"), lever("cheap", Cost.NOTHING, "a=2")
    assert list(growing_sets([(dear, 200), (cheap, 200)], 100, lambda _: 0)) == [([cheap], 200)]


def test_splitting_a_batch_makes_no_larger_one_fit() -> None:
    assert not list(growing_sets([(lever("split", Cost.SPLIT), 200)], 100, lambda _: 400))


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(100, 101, False), (100, 102, True), (0, 1, True), (0, 0, False), (20, 21, True)]
)
def test_growth_is_more_than_a_hundredth(before: int, after: int, expected: bool) -> None:
    assert GAIN == 0.01
    assert grows(before, after) is expected


# The cheapest set


@given(LEVERS, st.data())
def test_no_cheaper_set_and_no_part_of_the_cheapest_would_do(
    levers: list[MemoryOptimization], data: st.DataObject
) -> None:
    saves = {one.name: data.draw(st.integers(-40, 100)) for one in levers}
    needed = data.draw(st.integers(1, 250))
    tried: list[list[MemoryOptimization]] = []

    def fits(chosen: Sequence[MemoryOptimization]) -> bool:
        tried.append(list(chosen))
        return sum(saves[one.name] for one in chosen) >= needed

    found = cheapest_set(levers, fits)
    usable = [one for one in levers if one.price is not Cost.SPLIT]
    possible = [
        list(chosen)
        for count in (1, 2, 3)
        for chosen in combinations(usable, count)
        if all(agrees(a, [b]) for a, b in combinations(chosen, 2))
    ]
    enough = [chosen for chosen in possible if sum(saves[one.name] for one in chosen) >= needed]
    assert (found is None) is (not enough)
    assert all(chosen in possible for chosen in tried)
    if found is not None:
        assert found in enough
        assert price(found) == min(map(price, enough))
        assert not any(set(chosen) < set(found) for chosen in enough)


def test_nothing_is_tried_twice_and_the_search_ends_where_it_fits() -> None:
    levers = [lever("a"), lever("b", Cost.ARITHMETIC), lever("c", Cost.COMPUTE)]
    tried = []

    def fits(chosen: Sequence[MemoryOptimization]) -> bool:
        tried.append([one.name for one in chosen])
        return len(chosen) == 2

    found = cheapest_set(levers, fits)
    assert [one.name for one in found or []] == ["a", "b"]
    assert tried == [["a"], ["b"], ["a", "b"]]  # 1, 3, 1 + 3; the next would be c, for 6


# What goes together


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
def test_changes_agree_where_they_set_different_keys(one: str, other: str, expected: bool) -> None:
    first, second = lever("one", Cost.NOTHING, one), lever("other", Cost.NOTHING, "search.steps=2", other)
    assert agrees(first, [second]) is agrees(second, [first]) is expected
    assert agrees(first, [])
