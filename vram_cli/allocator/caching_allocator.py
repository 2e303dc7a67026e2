"""A model of PyTorch's CUDACachingAllocator for one device and one stream; it needs no GPU.

The rules are those of c10/cuda/CUDACachingAllocator.cpp in pytorch/pytorch; brackets name the function that each rule
follows. Events of other streams and private memory pools (CUDA graphs) are left out: a training process on one stream
does not use them. Of the options in PYTORCH_ALLOC_CONF, only expandable_segments is modelled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

from vram_cli.allocator.blocks import Block, Heap, Pool, SegmentInfo
from vram_cli.allocator.sizes import (
    LARGE_SEGMENT,
    MIN_BLOCK,
    SMALL_LIMIT,
    SMALL_SEGMENT,
    block_size,
    round_up,
    segment_size,
)
from vram_cli.units import format_bytes

_FIRST_ADDRESS = 1 << 44  # arbitrary: only the order of addresses matters
_UNLIMITED_RANGE = 1 << 44  # address range of an expandable segment if there is no memory limit


class OutOfMemory(Exception):  # noqa: N818 - an outcome that callers expect, like torch.OutOfMemoryError
    """The device has no memory left, even after the cache was released.

    Attributes:
        requested_bytes: the size of the failed request.
        segment_bytes: the segment that it needed; PyTorch's message says "Tried to allocate" of this.
        free_bytes: free memory of the device.
        allocated_bytes: bytes allocated to tensors at that moment.
        reserved_bytes: bytes reserved by the allocator at that moment.
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
    """Allocates as PyTorch does on a device of `capacity_bytes` (None: unlimited).

    The capacity is the memory that the process can use: the GPU's memory without the CUDA context and other processes.
    It limits physical memory, as the device does. PyTorch's own limit (set_per_process_memory_fraction) can be
    stricter: with expandable segments, it requires room for a whole segment before it maps a page.

    Attributes:
        allocated_bytes: bytes in allocated blocks, including rounding and unsplit remainders (memory_allocated).
        requested_bytes: bytes that were requested for them.
        reserved_bytes: bytes reserved from the device (memory_reserved).
        peak_allocated_bytes, peak_requested_bytes, peak_reserved_bytes: their highest values since `reset_peaks`.
        retries: times that the whole cache was released before an allocation succeeded or failed (num_alloc_retries).
        on_segment: called with (action, address, size) as memory is reserved from the device or returned to it;
            actions are named as in PyTorch's traces: "segment_alloc", "segment_free", "segment_map", "segment_unmap".
    """

    def __init__(self, capacity_bytes: int | None = None, *, expandable_segments: bool = False) -> None:
        self.capacity_bytes = capacity_bytes
        self.expandable_segments = expandable_segments
        self.allocated_bytes = self.requested_bytes = self.reserved_bytes = self.retries = 0
        self.on_segment: Callable[[str, int, int], None] = lambda *_: None
        self.reset_peaks()
        self._small = Pool(small=True, page=SMALL_SEGMENT)
        self._large = Pool(small=False, page=LARGE_SEGMENT)
        self._heap = Heap()
        self._next_address = _FIRST_ADDRESS

    @property
    def inactive_split_bytes(self) -> int:
        """Free parts of segments in use, which cannot be released; expandable segments do not count."""
        return self._heap.inactive_split_bytes

    def reset_peaks(self) -> None:
        """Reset the peaks to the current values (reset_peak_memory_stats)."""
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_requested_bytes = self.requested_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def malloc(self, size: int) -> int:
        """Allocate a block and return its address; 0 bytes allocate nothing and return address 0.

        Tries, in PyTorch's order (malloc): a free block, the device, and the device after releasing the cache.

        Raises:
            OutOfMemory: all of them failed. The allocator stays usable.
        """
        if size == 0:
            return 0
        rounded = block_size(size)
        pool = self._small if rounded <= SMALL_LIMIT else self._large
        block = self._best_fit(pool, rounded) or self._grow(pool, rounded)
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
        return self._allocate(block, size, rounded)

    def free(self, address: int) -> None:
        """Free a block and merge it with its free neighbours (free_block); address 0 does nothing.

        Raises:
            ValueError: no allocated block starts at that address.
        """
        if address == 0:
            return
        try:
            block = self._heap.at(address)
        except KeyError:
            raise ValueError(f"no block starts at address {address:#x}") from None
        if not block.allocated:
            raise ValueError(f"the block at address {address:#x} is already free")
        self.allocated_bytes -= block.size
        self.requested_bytes -= block.requested
        block.allocated, block.requested = False, 0
        self._heap.merge(block)
        self._heap.insert(block)

    def release_cached(self) -> None:
        """Return every unused segment, or unused page if expandable (release_cached_blocks, empty_cache)."""
        for pool in (self._large, self._small):
            for _, address in pool.free.copy():
                block = self._heap.at(address)
                if block.base is not None:
                    self._unmap(block, block.base)
                elif not block.split:
                    self._release(block)

    def snapshot_segments(self) -> tuple[SegmentInfo, ...]:
        """Return all segments in order of address, as in torch.cuda.memory_snapshot."""
        return self._heap.segments()

    def _allocate(self, block: Block, requested: int, rounded: int) -> int:
        """Mark a block as allocated, and split off its remainder if that is large enough (alloc_found_block)."""
        if self._should_split(block, rounded):
            self._heap.insert(self._heap.cut(block, rounded))
        block.allocated, block.requested = True, requested
        self.allocated_bytes += block.size
        self.requested_bytes += requested
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        self.peak_requested_bytes = max(self.peak_requested_bytes, self.requested_bytes)
        return block.address

    def _should_split(self, block: Block, size: int) -> bool:
        """Split off at least 512 bytes if small or expandable, more than 1 MiB otherwise (should_split)."""
        remainder = block.size - size
        return remainder >= MIN_BLOCK if block.pool.small or self.expandable_segments else remainder > SMALL_LIMIT

    def _best_fit(self, pool: Pool, size: int) -> Block | None:
        """Take the smallest free block that is large enough, at the lowest address (get_free_block)."""
        free, heap = pool.free, self._heap
        index = bisect_left(free, (size, 0))
        if index == len(free):
            return None
        if self.expandable_segments:  # a block counts with the size that it could grow to
            while index + 1 < len(free) and heap.at(free[index + 1][1]).reach < heap.at(free[index][1]).reach:
                index += 1
        block = heap.at(free[index][1])
        heap.remove(block)
        return block

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """Reserve memory from the device if it has enough (alloc_block)."""
        if self.expandable_segments:
            return self._expand(pool, size)
        segment = segment_size(size)
        if not self._reserve(segment):
            return None
        address = self._claim_addresses(segment)
        self.on_segment("segment_alloc", address, segment)
        return self._heap.add(Block(pool, address, segment))

    def _expand(self, pool: Pool, size: int) -> Block | None:
        """Map pages at the lowest address where `size` bytes fit (try_allocate_expandable_block)."""
        block = self._lowest_gap(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            gap = block.next
            if gap is None or not self._map(gap, min(gap.size, size - block.size)):
                return None  # pages mapped so far stay mapped and free
            block = gap
        self._heap.remove(block)
        return block

    def _lowest_gap(self, pool: Pool, size: int) -> Block:
        """Return the first of the free and unmapped blocks that suffice, or a new range (find_expandable_block)."""
        for address in pool.unmapped:
            start = self._heap.at(address)
            if start.prev is not None and not start.prev.allocated:
                start = start.prev
            if start.has_room(size):
                return start
        length = _UNLIMITED_RANGE if self.capacity_bytes is None else max(self.capacity_bytes * 9 // 8, size)
        length = round_up(length, pool.page)
        base = self._claim_addresses(length)
        block = self._heap.add(Block(pool, base, length, base=base, mapped=False))
        insort(pool.unmapped, base)
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Map whole pages at the front of an unmapped block, all or none (map_block)."""
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
        """Unmap the whole pages within a free block (unmap_block)."""
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
        else:  # nothing of the segment is mapped any more (release_expandable_segment)
            self._heap.drop(block)

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
        self._next_address += round_up(length, SMALL_SEGMENT)  # the granularity of cudaMalloc
        return address
