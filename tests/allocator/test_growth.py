"""Growth from step to step, told from the bytes that tensors hold after each step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.allocator.growth import STEPS_TO_TELL, growth_per_step, may_grow


@given(st.integers(0, 10**12), st.lists(st.integers(1, 10**9), min_size=STEPS_TO_TELL - 1, max_size=20))
def test_memory_that_rises_in_every_step_grows(first: int, rises: list[int]) -> None:
    held = [first]
    for rise in rises:
        held.append(held[-1] + rise)
    rate = growth_per_step(held)
    assert may_grow(held[:3])
    assert rate is not None
    assert min(rises) <= rate <= max(rises)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=3), st.integers(3, 30))
def test_memory_that_becomes_constant_does_not_grow(start: list[int], steps: int) -> None:
    held = [*start, *[max(start)] * steps]
    assert growth_per_step(held) is None


@pytest.mark.parametrize(
    ("held", "rate"),
    [
        ([5, 9, 9, 9, 9, 9], None),  # gradients and state, made in the first step
        ([5, 9, 9, 12, 12, 12], None),  # something made once, in the fourth
        ([5, 9, 5, 9, 5, 9], None),  # gradients freed by every other step
        ([5, 9, 10, 11, 10, 11], None),  # freed now and then
        ([5, 9, 10, 11, 12, 13], 1),
        ([5, 9, 9, 9, 10, 10, 10, 11, 11, 11, 12], 1),  # by 1 in every third step: at least 1 is said
        ([9, 9, 9, 9, 109, 209], 50),  # from the fifth step on
    ],
)
def test_growth_of(held: list[int], rate: int | None) -> None:
    assert growth_per_step(held) == rate


def test_one_rise_tells_if_memory_ran_out_before_the_next() -> None:
    assert growth_per_step([5, 9, 12]) is None
    assert growth_per_step([5, 9, 12], is_cut_short=True) == 3
    assert growth_per_step([5, 9, 9], is_cut_short=True) is None
    assert may_grow([5, 9])
    assert not may_grow([5, 9, 9])
