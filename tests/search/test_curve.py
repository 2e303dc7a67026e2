"""Memory that is no line: the answer is exact, and takes few trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, log2, sin
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import MIB, FakeMemory
from tests.search.test_find_largest import assert_proved, search
from vram_cli.records import Measurement
from vram_cli.search import find_largest
from vram_cli.search.curve import largest_on_curve
from vram_cli.search.target import roundest
from vram_cli.search.trial_budget import bisection_trials

Growth = Callable[[int], float]


def padded(unit: int) -> Growth:
    return lambda n: ceil(n / unit) * unit


GROWTHS: dict[str, tuple[Callable[[int], Growth], float]] = {
    # The memory of a batch in samples, given the limit, and the mean number of trials that must suffice.
    "linear": (lambda _: float, 6),
    "square": (lambda largest: lambda n: n * n / largest, 9),
    "line and square": (lambda largest: lambda n: n / 3 + n * n / largest, 10),
    "cube": (lambda largest: lambda n: n**3 / largest**2 + n / 10, 18),
    "n log n": (lambda _: lambda n: n * log2(n + 1), 14),
    "padded to powers of two": (lambda _: lambda n: 1 << (n - 1).bit_length(), 19),
    "padded to 8": (lambda _: padded(8), 12),
    "padded to 64": (lambda _: padded(64), 15),
    "padded to 100": (lambda _: padded(100), 16),
    "one jump": (lambda largest: lambda n: n + (largest / 2 if n > 0.7 * largest else 0), 14),
    "more for odd sizes": (lambda _: lambda n: n * (1.15 if n % 2 else 1), 12),
    "waves": (lambda largest: lambda n: n * (1 + 0.05 * sin(40 * n / largest)), 14),
}


def memory_of(growth: Growth, largest: int, random: Random) -> FakeMemory:
    capacity = int(random.choice([8, 16, 24, 80]) * 1024 * MIB * random.uniform(0.9, 1))
    resident = int(capacity * random.choice([random.uniform(0.0005, 0.02), random.uniform(0.02, 0.8)]))
    return FakeMemory(
        capacity_bytes=capacity,
        resident_bytes=resident,
        sample_bytes=max(int((capacity - resident) / growth(largest)), 64),
        optimizer_bytes=int(resident + random.uniform(0, 0.95) * (capacity - resident)) * random.randrange(2),
        granularity_bytes=random.choice([512, 2 * MIB, 20 * MIB]),
        grows_like=growth,
    )


@pytest.mark.parametrize("name", GROWTHS)
def test_few_trials_for_every_growth(name: str) -> None:
    make, trials = GROWTHS[name]
    random, counts = Random(name), []
    for _ in range(40):
        largest = int(10 ** random.uniform(1, 5.3))
        memory = memory_of(make(largest), largest, random)
        result = search(memory)
        assert_proved(result)
        budget = bisection_trials(result.max_batch_size or 0) + 2  # two jumps may bet
        assert len(memory.sizes) == len(set(memory.sizes)) <= budget
        counts.append(len(memory.sizes))
    assert mean(counts) <= trials


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.integers(1, 200_000),
    st.sampled_from([1, 8, 100, 1024]),
    st.integers(0, 2**32),
)
def test_any_mixture_of_growths_is_proved_within_the_budget(
    weights: list[float], largest: int, unit: int, seed: int
) -> None:
    line, square, steps, powers = weights

    def growth(n: int) -> float:
        return (
            (line + 0.01) * n
            + square * n * n / largest
            + steps * ceil(n / unit) * unit
            + powers * (1 << (n - 1).bit_length())
        )

    memory = memory_of(growth, largest, Random(seed))
    result = search(memory)
    assert_proved(result)
    assert len(memory.sizes) <= bisection_trials(result.max_batch_size or 0) + 2


@pytest.mark.parametrize("known", [(100, 1000), (1, 100, 1000)])
def test_parabola_through_trials(known: tuple[int, ...]) -> None:
    memory = FakeMemory(capacity_bytes=2**34, resident_bytes=2**20, sample_bytes=1024, grows_like=lambda n: n * n)
    successful = [memory(size) for size in known]
    assert largest_on_curve(successful, memory.capacity_bytes) == pytest.approx(4095, abs=5)


def test_no_parabola_through_a_line() -> None:
    memory = FakeMemory(capacity_bytes=2**34, resident_bytes=2**20, sample_bytes=10_000)
    assert largest_on_curve([memory(size) for size in (10, 100, 1000)], memory.capacity_bytes) is None
    assert largest_on_curve([memory(10)], memory.capacity_bytes) is None


def test_failure_that_lacked_far_more_than_the_line_expects() -> None:
    """Of a quadratic loss, a failed allocation of hundreds of gigabytes tells that the line is wrong."""
    memory = FakeMemory(
        capacity_bytes=14 * 1024 * MIB, resident_bytes=20 * MIB, sample_bytes=57, grows_like=lambda n: n * n
    )

    def measure(size: int) -> Measurement:
        measured = memory(size)
        if measured.fits:
            return measured
        return replace(measured, requested_bytes=size * size * 16, held_bytes=memory.capacity_bytes // 8)

    result = find_largest(measure, capacity_bytes=memory.capacity_bytes, multiple_of=None)
    assert_proved(result)
    assert len(memory.sizes) <= 9


@pytest.mark.parametrize(
    ("low", "high", "size"),
    [(833, 2927, 2048), (2048, 2927, 2560), (2048, 2050, 2049), (1, 2, 2), (5, 9, 8), (512, 600, 576)],
)
def test_roundest_size_between_two(low: int, high: int, size: int) -> None:
    assert roundest(low, high) == size
