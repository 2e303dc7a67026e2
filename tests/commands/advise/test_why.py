"""What a change saves, from which row, and why it does not help."""

from __future__ import annotations

import pytest

from vram_cli.commands.advise.reasons import saved, why_not
from vram_cli.records import Breakdown, BreakdownRow, Category, Phase
from vram_cli.units import MIB

TOTAL = 1000 * MIB


def breakdown(**sizes: int) -> Breakdown:
    held = {Category(name): size * MIB for name, size in sizes.items()}
    held[Category.FREE] = TOTAL - sum(held.values())
    rows = tuple(BreakdownRow(category=category, bytes=held.get(category, 0)) for category in Category)
    return Breakdown(batch_size=8, rows=rows, total_bytes=TOTAL, peak_phase=Phase.BACKWARD)


BEFORE = breakdown(parameters=100, gradients=100, activations=500, allocator_slack=40, context=60)


@pytest.mark.parametrize(
    ("after", "amount", "row"),
    [
        (breakdown(parameters=100, gradients=100, activations=500, allocator_slack=40, context=60), 0, None),
        (breakdown(parameters=100, gradients=0, activations=500, allocator_slack=40, context=60), 100, "gradients"),
        # Of several rows, the one that gives most; a row that grows meanwhile is not it.
        (breakdown(parameters=300, gradients=90, activations=250, allocator_slack=0, context=60), 100, "activations"),
        # Where more is taken, the one that takes most.
        (breakdown(parameters=150, gradients=0, activations=600, allocator_slack=40, context=60), -50, "activations"),
        # What lies outside the allocator is no part of the training.
        (breakdown(parameters=100, gradients=100, activations=490, allocator_slack=40, context=0), 70, "activations"),
    ],
)
def test_savings(after: Breakdown, amount: int, row: str | None) -> None:
    assert saved(BEFORE, after) == (amount * MIB, Category(row) if row else None)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (16 * MIB, "saves 16.0 MiB at 1,235, which makes no room for 1 % more samples"),
        (0, "saves nothing at the peak, in backward"),
        (-28 * MIB, "takes 28.0 MiB more at the peak, in backward"),
    ],
)
def test_why_not(amount: int, words: str) -> None:
    assert why_not(amount, 1235, Phase.BACKWARD, gain=0.01) == words


def test_room_is_told_in_what_has_to_be_gained() -> None:
    assert why_not(MIB, 1235, Phase.BACKWARD, gain=0.02).endswith("no room for 2 % more samples")
    assert why_not(MIB, 11, Phase.BACKWARD, gain=0.02).endswith("no room for one more sample")


def test_where_search_max_ends_the_search_nothing_is_said_of_room() -> None:
    words = why_not(16 * MIB, 1235, Phase.BACKWARD, gain=0.01, cap=1300)
    assert words == "saves 16.0 MiB at 1,235, and search.max_batch_size ends the search at 1,300"
    assert "takes 16.0 MiB more" in why_not(-16 * MIB, 1235, Phase.BACKWARD, gain=0.01, cap=1300)
