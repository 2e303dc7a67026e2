"""Block and segment sizes of PyTorch's CUDACachingAllocator.

From c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp in pytorch/pytorch; brackets name the constant or
the function there.
"""

from __future__ import annotations

from vram_cli.units import MIB

MIN_BLOCK = 512
"""Block sizes are multiples of it (kMinBlockSize)."""
SMALL_LIMIT = 1 * MIB
"""The largest block of the small pool (kSmallSize)."""
SMALL_SEGMENT = 2 * MIB
"""The segment size of the small pool (kSmallBuffer)."""
LARGE_SEGMENT = 20 * MIB
"""The segment size for blocks of the large pool below `LARGE_EXACT` (kLargeBuffer, large_segment_size)."""
LARGE_EXACT = 10 * MIB
"""Blocks of this size and above get a segment of their own size, rounded up to `LARGE_ROUND` (kMinLargeAlloc)."""
LARGE_ROUND = 2 * MIB
"""Segments above `LARGE_EXACT` are multiples of it (kRoundLarge)."""


def block_size(size: int) -> int:
    """Return the block size of a request (round_size)."""
    return max(MIN_BLOCK, round_up(size, MIN_BLOCK))


def segment_size(size: int) -> int:
    """Return the segment size that a block of `size` bytes needs (get_allocation_size)."""
    if size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < LARGE_EXACT else round_up(size, LARGE_ROUND)


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is at least `value`."""
    return -(-value // multiple) * multiple
