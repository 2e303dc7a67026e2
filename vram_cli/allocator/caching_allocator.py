"""A model of PyTorch's CUDACachingAllocator for one device and one stream, event by event and without a GPU.

The rules are those of c10/cuda/CUDACachingAllocator.cpp in pytorch/pytorch; brackets name the function whose rule is
followed. Left out, because one training process on one stream never meets them: events of other streams, pools of CUDA
graphs and of users.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

from vram_cli.allocator.blocks import Block, Heap, Pool, SegmentInfo
from vram_cli.allocator.settings import (
    DEFAULT_SETTINGS,
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL_LIMIT,
    SMALL_SEGMENT,
    AllocatorSettings,
    round_up,
    segment_size,
)
from vram_cli.units import MIB, format_bytes

_FIRST_ADDRESS = 1 << 44  # made up: only the order of addresses matters
_ENDLESS_RANGE = 1 << 44  # addresses of an expandable segment where the capacity is without end


class OutOfMemory(Exception):  # noqa: N818 - named after the outcome, which is no error to the one who asked
    """The device had no room, not even after the cache was given back.

    Attributes:
        requested_bytes: what the caller asked for.
        segment_bytes: what was wanted from the device for it; PyTorch's message says "Tried to allocate" of this.
        free_bytes: what the device had left.
        allocated_bytes: what tensors held at that moment.
        reserved_bytes: what the allocator held at that moment.
    """

    def __init__(
        self, *, requested_bytes: int, segment_bytes: int, free_bytes: int, allocated_bytes: int, reserved_bytes: int
    ) -> None:
        super().__init__(f"tried to allocate {format_bytes(segment_bytes)} with {format_bytes(free_bytes)} free")
        self.requested_bytes = requested_bytes
        self.segment_bytes = segment_bytes
        self.free_bytes = free_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes


class CachingAllocator:
    """Replays allocations as PyTorch would make them on a device of `capacity_bytes` (None: without end).

    The capacity is what the process can have: the card's memory without CUDA context and other processes. It is kept
    as a device keeps it, also where PyTorch's own cap (set_per_process_memory_fraction) is stricter: with expandable
    segments that cap wants room for a whole segment before it maps a page.

    Attributes:
        allocated_bytes: blocks handed out, rounding and unsplit remainders included (memory_allocated).
        requested_bytes: the same as tensors asked for it.
        reserved_bytes: taken from the device (memory_reserved).
        peak_allocated_bytes, peak_requested_bytes, peak_reserved_bytes: their highest values since `reset_peaks`.
        retries: how often the whole cache was given back to go on, or to fail (num_alloc_retries).
        on_segment: told what is taken from the device or given back to it: the action as PyTorch's traces name it
            ("segment_alloc", "segment_free", "segment_map", "segment_unmap"), address and size.
    """

    def __init__(self, capacity_bytes: int | None = None, settings: AllocatorSettings = DEFAULT_SETTINGS) -> None:
        self.capacity_bytes = capacity_bytes
        self.settings = settings
        self.allocated_bytes = self.requested_bytes = self.reserved_bytes = self.retries = 0
        self.on_segment: Callable[[str, int, int], None] = lambda *_: None
        self.reset_peaks()
        self._small = Pool(small=True, page=SMALL_SEGMENT)
        self._large = Pool(small=False, page=LARGE_SEGMENT)
        self._heap = Heap()
        self._next_address = _FIRST_ADDRESS
        limit = settings.max_split_size_mb
        self._max_split = None if limit is None else limit * MIB

    @property
    def inactive_split_bytes(self) -> int:
        """Free parts of segments in use, which cannot be given back; expandable segments do not count."""
        return self._heap.inactive_split_bytes

    def reset_peaks(self) -> None:
        """Let the peaks start again from the present values (reset_peak_memory_stats)."""
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_requested_bytes = self.requested_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def malloc(self, size: int) -> int:
        """Allocate and return the address, by which it is freed; 0 bytes take nothing and get address 0.

        The order is PyTorch's (malloc): a free block, the device, the device after giving back oversize blocks, the
        device after giving back the whole cache.

        Raises:
            OutOfMemory: nothing of that helped. The allocator can be used on.
        """
        if size == 0:
            return 0
        rounded = self.settings.round_size(size)
        pool = self._small if rounded <= SMALL_LIMIT else self._large
        block = self._best_fit(pool, rounded) or self._grow(pool, rounded)
        if block is None and self._release_oversize(pool, rounded):
            block = self._grow(pool, rounded)
        if block is None:
            self.release_cached()
            self.retries += 1
            block = self._grow(pool, rounded)
        if block is None:
            raise OutOfMemory(
                requested_bytes=size,
                segment_bytes=segment_size(rounded),
                free_bytes=(self.capacity_bytes or 0) - self.reserved_bytes,
                allocated_bytes=self.allocated_bytes,
                reserved_bytes=self.reserved_bytes,
            )
        return self._hand_out(block, size, rounded)

    def free(self, address: int) -> None:
        """Take a block back and merge it with its free neighbours (free_block); address 0 does nothing.

        Raises:
            ValueError: nothing is allocated at that address.
        """
        if address == 0:
            return
        try:
            block = self._heap.at(address)
        except KeyError:
            raise ValueError(f"nothing starts at address {address:#x}") from None
        if not block.allocated:
            raise ValueError(f"address {address:#x} is free already")
        self.allocated_bytes -= block.size
        self.requested_bytes -= block.requested
        block.allocated, block.requested = False, 0
        self._heap.merge(block)
        self._heap.insert(block)

    def release_cached(self) -> None:
        """Give back each segment, or page if expandable, that holds no tensor (release_cached_blocks, empty_cache)."""
        for pool in (self._large, self._small):
            for _, address in pool.free.copy():
                block = self._heap.at(address)
                if block.base is not None:
                    self._unmap(block, block.base)
                elif not block.split:
                    self._release(block)

    def snapshot_segments(self) -> tuple[SegmentInfo, ...]:
        """Return all segments in order of address, as torch.cuda.memory_snapshot lists them."""
        return self._heap.segments()

    def _hand_out(self, block: Block, requested: int, rounded: int) -> int:
        """Count a block, without its remainder if that is worth keeping (alloc_found_block)."""
        if self._should_split(block, rounded):
            self._heap.insert(self._heap.cut(block, rounded))
        block.allocated, block.requested = True, requested
        self.allocated_bytes += block.size
        self.requested_bytes += requested
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        self.peak_requested_bytes = max(self.peak_requested_bytes, self.requested_bytes)
        return block.address

    def _should_split(self, block: Block, size: int) -> bool:
        """Keep a remainder from 512 bytes on if small or expandable, above 1 MiB otherwise (should_split)."""
        if block.pool.small or self.settings.expandable_segments:
            return block.size - size >= MIN_BLOCK
        return (self._max_split is None or size < self._max_split) and block.size - size > SMALL_LIMIT

    def _best_fit(self, pool: Pool, size: int) -> Block | None:
        """Take the smallest free block that is large enough, the lowest address among equals (get_free_block)."""
        free, heap = pool.free, self._heap
        found = bisect_left(free, (size, 0))
        if found == len(free):
            return None
        if self.settings.expandable_segments:  # there a block counts as large as it could grow
            while found + 1 < len(free) and heap.at(free[found + 1][1]).reach < heap.at(free[found][1]).reach:
                found += 1
        block = heap.at(free[found][1])
        if (limit := self._max_split) is not None and block.size >= (limit if size < limit else size + LARGE_SEGMENT):
            return None
        heap.remove(block)
        return block

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """Take memory from the device if it has enough (alloc_block)."""
        if self.settings.expandable_segments:
            return self._expand(pool, size)
        segment = segment_size(size)
        if not self._reserve(segment):
            return None
        address = self._claim_addresses(segment)
        self.on_segment("segment_alloc", address, segment)
        return self._heap.add(Block(pool, address, segment))

    def _expand(self, pool: Pool, size: int) -> Block | None:
        """Map pages at the lowest address where `size` fits (try_allocate_expandable_block)."""
        block = self._lowest_room(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            gap = block.next
            if gap is None or not self._map(gap, min(gap.size, size - block.size)):
                return None  # what was mapped on the way stays, free
            block = gap
        self._heap.remove(block)
        return block

    def _lowest_room(self, pool: Pool, size: int) -> Block:
        """Return where blocks not handed out suffice, in a new range if nowhere (find_expandable_block)."""
        for address in pool.unmapped:
            start = self._heap.at(address)
            if start.prev is not None and not start.prev.allocated:
                start = start.prev
            if start.has_room(size):
                return start
        length = _ENDLESS_RANGE if self.capacity_bytes is None else max(self.capacity_bytes * 9 // 8, size)
        length = round_up(length, pool.page)
        base = self._claim_addresses(length)
        block = self._heap.add(Block(pool, base, length, base=base, mapped=False))
        insort(pool.unmapped, base)
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Put whole pages behind the front of an unmapped block, all or none (map_block)."""
        length = round_up(size, block.pool.page)
        if not self._reserve(length):
            return False
        self.on_segment("segment_map", block.address, length)
        self._heap.remove(block)
        if length < block.size:
            self._heap.insert(self._heap.cut(block, length))
        block.mapped = True
        self._heap.merge(block)
        self._heap.insert(block)
        return True

    def _unmap(self, block: Block, base: int) -> None:
        """Give back the whole pages within a free block (unmap_block)."""
        page = block.pool.page
        start = base + round_up(block.address - base, page)
        length = (block.address + block.size - start) // page * page
        if length <= 0:
            return
        self.on_segment("segment_unmap", start, length)
        self._heap.remove(block)
        if start > block.address:
            front, block = block, self._heap.cut(block, start - block.address)
            self._heap.insert(front)
        if block.size > length:
            self._heap.insert(self._heap.cut(block, length))
        self.reserved_bytes -= length
        block.mapped = False
        self._heap.merge(block)
        if block.split:
            self._heap.insert(block)
        else:  # nothing is left of the segment (release_expandable_segment)
            self._heap.drop(block)

    def _release_oversize(self, pool: Pool, size: int) -> bool:
        """Give back one unsplittable block that suffices, or several, the largest first, that do together.

        Returns whether it is worth asking the device again (release_available_cached_blocks).
        """
        limit = self._max_split
        if limit is None or self.settings.expandable_segments:
            return False
        at = bisect_left(pool.free, (size, 0))  # it did not fit best: it is oversize
        if at < len(pool.free):
            self._release(self._heap.at(pool.free[at][1]))
            return True
        released = 0
        while released < size and pool.free and pool.free[-1][0] >= limit:
            released += pool.free[-1][0]
            self._release(self._heap.at(pool.free[-1][1]))
        return released >= size

    def _release(self, block: Block) -> None:
        """Return a whole segment to the device (release_block)."""
        self.on_segment("segment_free", block.address, block.size)
        self._heap.remove(block)
        self._heap.drop(block)
        self.reserved_bytes -= block.size

    def _reserve(self, size: int) -> bool:
        if self.capacity_bytes is not None and self.reserved_bytes + size > self.capacity_bytes:
            return False
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True

    def _claim_addresses(self, length: int) -> int:
        address = self._next_address
        self._next_address += round_up(length, SMALL_SEGMENT)  # cudaMalloc's own granularity
        return address
