"""The effect of a change on the breakdown, and the reason if it does not help."""

from __future__ import annotations

from vram_cli.records import Breakdown, Category, Phase
from vram_cli.units import format_bytes

_OUTSIDE = (Category.FREE, Category.CONTEXT)


def memory_saved(before: Breakdown, after: Breakdown) -> tuple[int, Category | None]:
    """Return the bytes that a change frees at the peak, and the category that changes most in that direction."""
    total = after.bytes_of(Category.FREE) - before.bytes_of(Category.FREE)
    categories = dict.fromkeys(row.category for row in (*before.rows, *after.rows))
    changes = {category: before.bytes_of(category) - after.bytes_of(category) for category in categories}
    inside = [category for category in changes if category not in _OUTSIDE and changes[category] * total > 0]
    return total, max(inside, key=lambda category: abs(changes[category]), default=None)


def reason_not_helpful(
    saved_bytes: int, batch_size: int, peak: Phase, *, min_gain: float, max_batch_size: int | None = None
) -> str:
    """Return the reason why a change that runs does not make the batch larger.

    Args:
        saved_bytes: memory that it frees at a batch size.
        batch_size: that batch size.
        peak: the phase of the peak.
        min_gain: the share by which the batch has to grow.
        max_batch_size: `search.max_batch_size`, if it ended the search.
    """
    if saved_bytes > 0:
        saves = f"saves {format_bytes(saved_bytes)} at {batch_size:,}"
        if max_batch_size is not None:
            return f"{saves}, but search.max_batch_size ends the search at {max_batch_size:,}"
        more = f"{100 * min_gain:g} % more samples" if batch_size * min_gain >= 1 else "one more sample"
        return f"{saves}, not enough for {more}"
    if saved_bytes == 0:
        return f"saves nothing at the peak, in {peak.value}"
    return f"takes {format_bytes(-saved_bytes)} more at the peak, in {peak.value}"
