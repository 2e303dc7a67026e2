"""Sizes that the training refuses: an error is the limit only if no larger size runs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import SHAPES, FakeMemory, limited_to
from vram_cli.records import BatchSizes, Limit, Measurement, Outcome, SearchResult
from vram_cli.search import find_largest
from vram_cli.search.trial_budget import bisection_trials

Rule = Callable[[int], bool]

RULES: dict[str, tuple[Rule, int, float]] = {
    # The rule, train.batch_size, and the mean number of trials that must suffice.
    "even": (lambda n: n % 2 == 0, 128, 9),
    "multiples of 32": (lambda n: n % 32 == 0, 64, 12),
    "multiples of 24": (lambda n: n % 24 == 0, 96, 13),
    "multiples of 7": (lambda n: n % 7 == 0, 56, 11),
    "odd": (lambda n: n % 2 == 1, 128, 10),
    "one more than a multiple of 3": (lambda n: n % 3 == 1, 128, 12),
    "powers of two": (lambda n: n & (n - 1) == 0, 128, 13),
    "powers of two from 8 on": (lambda n: n & (n - 1) == 0 and n >= 8, 128, 15),
    "even, and not multiples of 4": (lambda n: n % 4 == 2, 128, 12),
    "at least 2": (lambda n: n >= 2, 128, 9),
    "at least 20": (lambda n: n >= 20, 128, 11),
    "all but a few": (lambda n: n not in (37, 64, 100, 128, 500, 512, 513, 1000), 128, 9),
    "all that leave no last batch of one": (lambda n: 1000 % n != 1, 128, 9),
}
LIMITS: dict[str, tuple[Rule, int]] = {
    "up to 77": (lambda n: n <= 77, 77),
    "up to 512": (lambda n: n <= 512, 512),
    "two to 511": (lambda n: 2 <= n <= 511, 511),
    "even up to 600": (lambda n: n % 2 == 0 and n <= 600, 600),
    "multiples of 32 up to 512": (lambda n: n % 32 == 0 and n <= 512, 512),
    "only the configured": (lambda n: n == 128, 128),
}


class Refusing:
    """A measuring function that raises at the sizes that a rule does not accept."""

    def __init__(self, accepts: Rule, memory: Callable[[int], Measurement]) -> None:
        self.accepts, self.memory = accepts, memory
        self.sizes: list[int] = []

    def __call__(self, size: int) -> Measurement:
        self.sizes.append(size)
        if not self.accepts(size):
            return Measurement(batch_size=size, outcome=Outcome.ERROR, message=f"ValueError: not {size}")
        return self.memory(size)

    def largest(self, bound: int) -> int:
        return next((size for size in range(bound, 0, -1) if self.accepts(size)), 0)


def searched(measure: Refusing, memory: FakeMemory, configured: int, **options: object) -> SearchResult:
    options = {"multiple_of": None, **options}
    return find_largest(
        measure,
        capacity_bytes=memory.capacity_bytes,
        configured_size=configured,
        **options,  # type: ignore[arg-type]
    )


def memories(name: str, count: int) -> list[tuple[int, FakeMemory]]:
    random = Random(name)
    sizes = [int(10 ** random.uniform(2.6, 4.6)) for _ in range(count)]
    return [(size, limited_to(size, random.choice(SHAPES[:5]))) for size in sizes]


@pytest.mark.parametrize("name", RULES)
def test_largest_accepted_size_is_found_in_few_trials(name: str) -> None:
    accepts, configured, trials = RULES[name]
    counts = []
    for largest, memory in memories(name, 25):
        measure = Refusing(accepts, memory)
        result = searched(measure, memory, configured)
        assert result.max_batch_size == measure.largest(largest)
        assert result.limited_by is Limit.MEMORY
        assert result.certificate is not None
        assert result.certificate.smallest_failed is not None
        assert result.certificate.outcome is Outcome.OUT_OF_MEMORY
        between = range(result.max_batch_size + 1, result.certificate.smallest_failed)
        assert not any(accepts(size) for size in between)
        assert len(measure.sizes) == len(set(measure.sizes))
        counts.append(len(measure.sizes))
    assert mean(counts) <= trials


@pytest.mark.parametrize("name", LIMITS)
def test_error_above_which_nothing_runs_is_the_limit(name: str) -> None:
    accepts, limit = LIMITS[name]
    counts = []
    for _, memory in memories(name, 15):
        if not memory(2000).fits:  # the memory must not be the limit
            continue
        measure = Refusing(accepts, memory)
        result = searched(measure, memory, 128)
        assert (result.max_batch_size, result.limited_by) == (limit, Limit.ERROR)
        assert result.certificate is not None
        assert result.certificate.message == f"ValueError: not {result.certificate.smallest_failed}"
        assert result.extrapolated_batch_size is None or result.extrapolated_batch_size > limit
        counts.append(len(measure.sizes))
    assert counts
    assert mean(counts) <= 24


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 64), st.integers(0, 20_000), st.sampled_from(SHAPES[:5]), st.integers(1, 5))
def test_any_multiple_is_found_from_the_configured_size(unit: int, largest: int, shape: str, groups: int) -> None:
    memory = limited_to(largest, shape)
    measure = Refusing(lambda size: size % unit == 0, memory)
    result = searched(measure, memory, unit * groups)
    assert (result.max_batch_size or 0) == measure.largest(largest)
    if result.max_batch_size:
        refused = sum(not measure.accepts(size) for size in measure.sizes)
        # Of those that run, the search for the unit takes a few of its own.
        assert len(measure.sizes) - refused <= bisection_trials(largest // unit) + groups.bit_length() + 2


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 64), st.integers(0, 20_000), st.sampled_from(SHAPES[:5]))
def test_only_multiples_are_tried_if_that_is_asked_for(unit: int, largest: int, shape: str) -> None:
    memory = limited_to(largest, shape)
    measure = Refusing(lambda size: size % unit == 0, memory)
    result = searched(measure, memory, 128, only_multiples_of=unit, multiple_of=8)
    assert all(size % unit == 0 for size in measure.sizes)
    assert (result.max_batch_size or 0) == largest // unit * unit
    assert result.accepted_sizes == BatchSizes(multiple_of=unit)
    assert result.refused is None
    if result.max_batch_size:
        assert result.certificate is not None
        assert result.certificate.smallest_failed == result.max_batch_size + unit
    if result.recommended_batch_size:
        assert result.recommended_batch_size % unit == 0


def test_answer_says_which_sizes_were_refused_in_the_words_of_the_training() -> None:
    memory = limited_to(1001)
    result = searched(Refusing(lambda size: size % 2 == 0, memory), memory, 64)
    assert result.max_batch_size == 1000
    assert result.accepted_sizes == BatchSizes(multiple_of=2)
    assert result.refused is not None
    assert result.refused.message == f"ValueError: not {result.refused.batch_size}"
    assert any(
        note.startswith("of the sizes tried, only multiples of 2 ran: batch size ") and result.refused.message in note
        for note in result.notes
    )


def test_training_that_raises_at_every_size_takes_three_trials() -> None:
    measure = Refusing(lambda size: False, limited_to(100))
    result = find_largest(measure, configured_size=128)
    assert (measure.sizes, result.max_batch_size, result.limited_by) == ([1, 2, 128], None, Limit.ERROR)


def test_divisor_of_the_configured_size_is_found_if_that_does_not_fit() -> None:
    memory = limited_to(50)
    measure = Refusing(lambda size: size % 32 == 0, memory)
    result = searched(measure, memory, 96)
    assert (result.max_batch_size, result.limited_by) == (32, Limit.MEMORY)


@pytest.mark.parametrize("bound", [999, 1000, 1001])
def test_upper_bound_ends_the_search_at_the_last_accepted_size(bound: int) -> None:
    memory = limited_to(5000)
    measure = Refusing(lambda size: size % 2 == 0, memory)
    result = searched(measure, memory, 64, upper_bound=bound, upper_bound_limit=Limit.DATASET)
    assert (result.max_batch_size, result.limited_by) == (bound // 2 * 2, Limit.DATASET)
    assert max(measure.sizes) <= bound


@pytest.mark.parametrize(
    ("name", "multiple"), [("multiples of 24", 24), ("even", 8), ("powers of two", 8), ("odd", 1), ("at least 2", 8)]
)
def test_recommended_size_is_accepted_and_round(name: str, multiple: int) -> None:
    accepts, configured, _ = RULES[name]
    memory = limited_to(20_000)
    margin = memory.capacity_bytes // 20
    result = searched(Refusing(accepts, memory), memory, configured, multiple_of=8, margin_bytes=margin)
    size = result.recommended_batch_size
    assert size is not None
    assert accepts(size)
    assert size % multiple == 0
    last = {trial.batch_size: trial for trial in result.trials}
    assert last[size].peak_reserved_bytes <= memory.capacity_bytes - margin


def test_tolerance_and_confirmation_keep_to_accepted_sizes() -> None:
    memory = limited_to(10_001)
    measure, confirmed = Refusing(lambda size: size % 2 == 0, memory), Refusing(lambda size: size % 2 == 0, memory)
    result = searched(measure, memory, 64, tolerance=0.05, confirm=confirmed)
    assert result.max_batch_size is not None
    assert 9500 <= result.max_batch_size <= 10_000
    assert confirmed.sizes == [result.max_batch_size]


@given(st.integers(1, 50), st.integers(0, 49), st.integers(1, 60), st.integers(1, 10_000))
def test_sizes_are_numbered(unit: int, remainder: int, multiple: int, size: int) -> None:
    sizes = BatchSizes(multiple_of=unit, remainder=remainder % unit)
    members = [n for n in range(1, 200) if n % unit == remainder % unit]
    assert [sizes.at(number) for number in range(1, len(members) + 1)] == members
    assert [n for n in range(1, 200) if n in sizes] == members
    assert sizes.floor(size) <= size < sizes.at(sizes.count_to(size) + 1)
    both = sizes.multiples(multiple)
    expected = [n for n in range(1, 6000) if n in sizes and n % multiple == 0]
    assert ([n for n in range(1, 6000) if n in both] if both else []) == expected


def test_powers_of_two_are_numbered() -> None:
    powers = BatchSizes(powers_of_two=True)
    assert [powers.at(number) for number in range(1, 6)] == [1, 2, 4, 8, 16]
    assert (powers.floor(100), powers.count_to(100), 64 in powers, 65 in powers) == (64, 7, True, False)
    assert powers.multiples(8) == powers
    assert powers.multiples(12) is None
