"""Tapes played by hand: what is said of a step whose cache is given back in the middle of it."""

from __future__ import annotations

from vram_cli.allocator.allocation_trace import AllocationTrace, Storage
from vram_cli.allocator.replay import play
from vram_cli.records import Category, Phase
from vram_cli.units import MIB

LARGE, SMALL = 90 * MIB, 1000


def test_the_most_reserved_in_a_step_counts_and_not_what_is_left_at_its_end() -> None:
    """The small tensor needs a segment of 2 MiB, for which the 90 MiB that are cached by then are given back."""
    storages = (Storage(LARGE, Category.ACTIVATIONS), Storage(SMALL, Category.TEMPORARIES))
    step = (Phase.FORWARD, 0, ~0, Phase.BACKWARD, 1, ~1)
    played = play(AllocationTrace(storages, (), (step,), {}), capacity_bytes=91 * MIB)
    assert played.failure is None
    assert played.retries > 0
    assert played.reserved_bytes == LARGE
    assert played.at_peak[Category.ACTIVATIONS] == LARGE


def test_without_a_limit_the_cache_is_kept() -> None:
    storages = (Storage(LARGE, Category.ACTIVATIONS), Storage(SMALL, Category.TEMPORARIES))
    step = (Phase.FORWARD, 0, ~0, Phase.BACKWARD, 1, ~1)
    played = play(AllocationTrace(storages, (), (step,), {}))
    assert played.retries == 0
    assert played.reserved_bytes == LARGE + 2 * MIB
