"""Forecasts: lines through measured peaks, and the sizes that they choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import MIB, FakeMemory, limited_to
from tests.search.test_find_largest import assert_proved, search
from vram_cli.records import Measurement, Outcome, Phase, PhasePeak
from vram_cli.search.forecast import Forecast, forecast, next_size, proportional
from vram_cli.search.trial_budget import BEYOND


def trials(memory: FakeMemory, sizes: Iterable[int]) -> list[Measurement]:
    return [memory(size) for size in sizes]


def test_lines_ignore_a_dominating_optimizer_step() -> None:
    memory = limited_to(5000, "optimizer")
    first, second = trials(memory, (1, 40))
    assert first.peak_allocated_bytes == second.peak_allocated_bytes
    lines = forecast([first, second], memory.capacity_bytes)
    assert lines is not None
    assert lines.largest == pytest.approx(5000, rel=0.01)


def test_lines_end_at_a_granule() -> None:
    memory = FakeMemory(
        capacity_bytes=1050 * MIB, resident_bytes=40 * MIB, sample_bytes=MIB // 2, granularity_bytes=20 * MIB
    )
    lines = forecast(trials(memory, (1, 100, 400)), memory.capacity_bytes)
    assert lines is not None
    assert (lines.largest, lines.granularity) == (2000, 40)


def test_no_line_without_growth_or_capacity() -> None:
    flat = FakeMemory(capacity_bytes=2**30, resident_bytes=MIB, sample_bytes=0)
    assert forecast(trials(flat, (1, 2)), flat.capacity_bytes) is None
    assert forecast(trials(limited_to(9), (1, 2)), None) is None
    assert forecast(trials(limited_to(9), (1,)), 2**40) is None


def test_lines_include_growing_fragmentation() -> None:
    memory = FakeMemory(capacity_bytes=1200 * MIB, resident_bytes=100 * MIB, sample_bytes=MIB)

    def fragmented(size: int) -> Measurement:
        peak = PhasePeak(
            phase=Phase.BACKWARD,
            allocated_bytes=memory.peaks(size)[1].allocated_bytes,
            reserved_bytes=(100 + 2 * size) * MIB,  # as many bytes lost as allocated
        )
        return Measurement(batch_size=size, outcome=Outcome.FITS, steps=1, peaks=(peak,))

    lines = forecast([fragmented(20), fragmented(100)], memory.capacity_bytes)
    assert lines is not None
    assert lines.largest == 550


def test_bound_from_the_shortfall_of_a_failed_trial() -> None:
    memory = limited_to(4000)
    successful = trials(memory, (100, 3000))
    failed = Measurement(
        batch_size=3900,
        outcome=Outcome.OUT_OF_MEMORY,
        peaks=memory.peaks(3900),
        requested_bytes=memory.capacity_bytes - memory.peaks(3900)[1].allocated_bytes + 500 * memory.sample_bytes,
        held_bytes=memory.peaks(3900)[1].allocated_bytes,
    )
    before = forecast(successful, memory.capacity_bytes)
    after = forecast(successful, memory.capacity_bytes, failed)
    assert before is not None
    assert after is not None
    assert before.largest == pytest.approx(4000, abs=1)
    # In samples: 500 are missing, and by the line 100 more would be free.
    unseen = 600 / 3900
    assert after.bound == pytest.approx(4000 / (1 + unseen), abs=2)
    assert (before.bound, after.largest) == (BEYOND, before.largest)
    assert next_size(after, largest_ok=3000, smallest_failed=3900) == after.bound


def test_bound_that_excludes_one_size_is_ignored() -> None:
    assert next_size(Forecast(largest=4000, bound=3899, granularity=1), largest_ok=3000, smallest_failed=3900) < 3890
    assert next_size(Forecast(largest=3880, bound=3899, granularity=1), largest_ok=3000, smallest_failed=3900) == 3880


@pytest.mark.parametrize("unseen", [200, 400, 800])
def test_memory_outside_all_counters_costs_few_trials(unseen: int) -> None:
    for largest in (300, 2000, 50_000):
        memory = limited_to(largest)
        memory = replace(memory, unseen_bytes=unseen, sizes=[])
        result = search(memory)
        assert_proved(result)
        assert len(memory.sizes) <= 7


@given(st.integers(0, 2**36), st.integers(1, 2**30), st.floats(0, 0.5), st.floats(1, 1000), st.integers(1, 50))
def test_proportional_jump_always_fits(
    resident: int, sample: int, gradients: float, capacity: float, size: int
) -> None:
    memory = FakeMemory(
        capacity_bytes=0, resident_bytes=resident, sample_bytes=sample, gradient_bytes=int(gradients * resident)
    )
    first = memory(size).__class__(  # the trial without a memory limit
        batch_size=size,
        outcome=Outcome.FITS,
        peaks=memory.peaks(size),
        resident_bytes=resident,
        steps=1,
    )
    capacity_bytes = int(first.peak_reserved_bytes * capacity)
    jump = proportional(first, capacity_bytes)
    assert jump == 0 or memory.peaks(jump)[-1].reserved_bytes <= capacity_bytes
