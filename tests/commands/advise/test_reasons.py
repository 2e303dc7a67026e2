"""Saved memory, its category, and the reason why a change does not help."""

from __future__ import annotations

import pytest

from vram_cli.commands.advise.reasons import memory_saved, reason_not_helpful
from vram_cli.records import OF_ONE_RANK, Breakdown, BreakdownRow, Category, Phase
from vram_cli.units import MIB

TOTAL = 1000 * MIB


def breakdown(**sizes: int) -> Breakdown:
    categories = {Category(name): size * MIB for name, size in sizes.items()}
    categories[Category.FREE] = TOTAL - sum(categories.values())
    rows = tuple(BreakdownRow(category=category, bytes=categories.get(category, 0)) for category in OF_ONE_RANK)
    return Breakdown(batch_size=8, rows=rows, total_bytes=TOTAL, peak_phase=Phase.BACKWARD)


BEFORE = breakdown(parameters=100, gradients=100, activations=500, allocator_slack=40, context=60)


@pytest.mark.parametrize(
    ("after", "amount", "row"),
    [
        (breakdown(parameters=100, gradients=100, activations=500, allocator_slack=40, context=60), 0, None),
        (breakdown(parameters=100, gradients=0, activations=500, allocator_slack=40, context=60), 100, "gradients"),
        # The category that shrinks most.
        (breakdown(parameters=300, gradients=90, activations=250, allocator_slack=0, context=60), 100, "activations"),
        # The category that grows most, if the total grows.
        (breakdown(parameters=150, gradients=0, activations=600, allocator_slack=40, context=60), -50, "activations"),
        # Memory outside the allocator is never the category.
        (breakdown(parameters=100, gradients=100, activations=490, allocator_slack=40, context=0), 70, "activations"),
    ],
)
def test_memory_saved(after: Breakdown, amount: int, row: str | None) -> None:
    assert memory_saved(BEFORE, after) == (amount * MIB, Category(row) if row else None)


@pytest.mark.parametrize(
    ("saved_bytes", "reason"),
    [
        (16 * MIB, "saves 16.0 MiB at 1,235, not enough for 1 % more samples"),
        (0, "saves nothing at the peak, in backward"),
        (-28 * MIB, "takes 28.0 MiB more at the peak, in backward"),
    ],
)
def test_reason(saved_bytes: int, reason: str) -> None:
    assert reason_not_helpful(saved_bytes, 1235, Phase.BACKWARD, min_gain=0.01) == reason


def test_reason_names_the_required_gain() -> None:
    assert reason_not_helpful(MIB, 1235, Phase.BACKWARD, min_gain=0.02).endswith("not enough for 2 % more samples")
    assert reason_not_helpful(MIB, 11, Phase.BACKWARD, min_gain=0.02).endswith("not enough for one more sample")


def test_reason_names_max_batch_size() -> None:
    reason = reason_not_helpful(16 * MIB, 1235, Phase.BACKWARD, min_gain=0.01, max_batch_size=1300)
    assert reason == "saves 16.0 MiB at 1,235, but search.max_batch_size ends the search at 1,300"
    assert "takes 16.0 MiB more" in reason_not_helpful(
        -16 * MIB, 1235, Phase.BACKWARD, min_gain=0.01, max_batch_size=1300
    )
