"""What a change does to the breakdown, and why it does not help where it does not."""

from __future__ import annotations

from vram_cli.records import Breakdown, Category, Phase
from vram_cli.units import format_bytes

_OUTSIDE = (Category.FREE, Category.CONTEXT)


def saved(before: Breakdown, after: Breakdown) -> tuple[int, Category | None]:
    """Return what a change leaves free at the peak, and the row that changes most in that direction."""
    total = after.bytes_of(Category.FREE) - before.bytes_of(Category.FREE)
    changes = {row.category: row.bytes - after.bytes_of(row.category) for row in before.rows}
    inside = [category for category in changes if category not in _OUTSIDE and changes[category] * total > 0]
    return total, max(inside, key=lambda category: abs(changes[category]), default=None)


def why_not(saved_bytes: int, batch_size: int, peak: Phase, *, gain: float, cap: int | None = None) -> str:
    """Say why a change with which the training runs does not make the batch larger.

    Args:
        saved_bytes: what it leaves free at a batch size.
        batch_size: that size.
        peak: the phase of the peak there.
        gain: the share by which a batch has to grow.
        cap: `search.max_batch_size`, where that ended the search.
    """
    if saved_bytes > 0 and cap is not None:
        return (
            f"saves {format_bytes(saved_bytes)} at {batch_size:,}, and search.max_batch_size ends the search at {cap:,}"
        )
    if saved_bytes > 0:
        more = f"{100 * gain:g} % more samples" if batch_size * gain >= 1 else "one more sample"
        return f"saves {format_bytes(saved_bytes)} at {batch_size:,}, which makes no room for {more}"
    if saved_bytes == 0:
        return f"saves nothing at the peak, in {peak.value}"
    return f"takes {format_bytes(-saved_bytes)} more at the peak, in {peak.value}"
