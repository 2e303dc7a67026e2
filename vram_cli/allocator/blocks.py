"""Blocks of device memory: neighbours in a segment, and sorted lists of free blocks.

This module splits, merges and lists blocks; `caching_allocator` decides when, and knows sizes and the device. Names in
brackets are those of c10/cuda/CUDACachingAllocator.cpp in pytorch/pytorch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """A block of a segment, allocated or free."""

    address: int
    size: int
    requested: int
    """The requested size; 0 if the block is free."""
    allocated: bool


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """Memory reserved from the device in one piece, or a run of mapped pages of an expandable segment."""

    address: int
    size: int
    small: bool
    """Whether it belongs to the pool of small blocks."""
    expandable: bool
    blocks: tuple[BlockInfo, ...]
    """In order of address, without gaps."""


class Pool:
    """The free and the unmapped blocks of one size class (BlockPool)."""

    __slots__ = ("free", "page", "small", "unmapped")

    def __init__(self, *, small: bool, page: int) -> None:
        self.small = small
        self.page = page
        """The page size of its expandable segments."""
        self.free: list[tuple[int, int]] = []
        """(size, address), sorted (BlockComparatorSize)."""
        self.unmapped: list[int] = []
        """Addresses, sorted (BlockComparatorAddress)."""


class Block:
    """A run of bytes (Block); `prev` and `next` are its neighbours in the segment, None at the segment's ends."""

    __slots__ = ("address", "allocated", "base", "mapped", "next", "pool", "prev", "requested", "size")

    def __init__(self, pool: Pool, address: int, size: int, *, base: int | None = None, mapped: bool = True) -> None:
        self.pool = pool
        self.address = address
        self.size = size
        self.base = base
        """Start of its expandable segment; None in a cudaMalloc segment."""
        self.mapped = mapped
        """Whether its addresses are backed by memory; False only in expandable segments."""
        self.allocated = False
        self.requested = 0
        self.prev: Block | None = None
        self.next: Block | None = None

    @property
    def split(self) -> bool:
        """Whether it is part of a larger segment (is_split)."""
        return self.prev is not None or self.next is not None

    @property
    def reach(self) -> int:
        """The size that it could grow to, with the unmapped block after it (expandable_size)."""
        return self.size + (self.next.size if self.next is not None and not self.next.mapped else 0)

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes from here on are not allocated."""
        block: Block | None = self
        while block is not None and not block.allocated and size > 0:
            size -= block.size
            block = block.next
        return size <= 0


class Heap:
    """All blocks by address. A block is allocated, or in its pool's list, or held by the caller.

    Attributes:
        inactive_split_bytes: free parts of segments in use; expandable segments do not count.
    """

    def __init__(self) -> None:
        self.inactive_split_bytes = 0
        self._blocks: dict[int, Block] = {}

    def at(self, address: int) -> Block:
        """Return the block that starts at an address. Raises `KeyError`."""
        return self._blocks[address]

    def add(self, block: Block) -> Block:
        """Add a new block, which is in no list yet."""
        self._blocks[block.address] = block
        return block

    def drop(self, block: Block) -> None:
        """Drop a block that is in no list and has no neighbours."""
        del self._blocks[block.address]

    def insert(self, block: Block) -> None:
        """Insert a block into its pool's list of free or unmapped blocks."""
        if not block.mapped:
            insort(block.pool.unmapped, block.address)
            return
        insort(block.pool.free, (block.size, block.address))
        if block.base is None and block.split:
            self.inactive_split_bytes += block.size

    def remove(self, block: Block) -> None:
        """Remove a block from its pool's list."""
        if not block.mapped:
            block.pool.unmapped.remove(block.address)
            return
        del block.pool.free[bisect_left(block.pool.free, (block.size, block.address))]
        if block.base is None and block.split:
            self.inactive_split_bytes -= block.size

    def cut(self, block: Block, size: int) -> Block:
        """Shorten a block to `size` and return the rest as its new neighbour; neither may be in a list."""
        rest = Block(block.pool, block.address + size, block.size - size, base=block.base, mapped=block.mapped)
        block.size = size
        rest.prev, rest.next, block.next = block, block.next, rest
        if rest.next is not None:
            rest.next.prev = rest
        return self.add(rest)

    def merge(self, block: Block) -> None:
        """Merge a block that is in no list with its listed neighbours of the same kind (try_merge_blocks)."""
        if (before := block.prev) is not None and _can_merge(before, block):
            self.remove(before)
            self.drop(block)
            block.address, block.prev = before.address, before.prev
            block.size += before.size
            if block.prev is not None:
                block.prev.next = block
            self.add(block)
        if (after := block.next) is not None and _can_merge(after, block):
            self.remove(after)
            self.drop(after)
            block.next = after.next
            block.size += after.size
            if block.next is not None:
                block.next.prev = block

    def segments(self) -> tuple[SegmentInfo, ...]:
        """Return all segments in order of address; unmapped addresses belong to none."""
        heads = (block for _, block in sorted(self._blocks.items()) if block.prev is None or not block.prev.mapped)
        return tuple(_segment(head) for head in heads if head.mapped)


def _can_merge(neighbour: Block, block: Block) -> bool:
    return not neighbour.allocated and neighbour.mapped is block.mapped


def _segment(head: Block) -> SegmentInfo:
    blocks: list[BlockInfo] = []
    block: Block | None = head
    while block is not None and block.mapped:
        blocks.append(BlockInfo(block.address, block.size, block.requested, block.allocated))
        block = block.next
    size = sum(info.size for info in blocks)
    return SegmentInfo(head.address, size, head.pool.small, head.base is not None, tuple(blocks))
