"""The allocator model: each rule by hand, and invariants on random sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.units import KIB, MIB


def layout(allocator: CachingAllocator) -> list[list[tuple[int, bool]]]:
    """(size, allocated) of each block, segment by segment."""
    return [[(block.size, block.allocated) for block in segment.blocks] for segment in allocator.snapshot_segments()]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "block"), [(1, 512), (512, 512), (513, 1024), (1_000_000, 1_000_448)])
def test_blocks_are_multiples_of_512_bytes(size: int, block: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(size)
    assert (allocator.allocated_bytes, allocator.requested_bytes) == (block, size)


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (1, 2 * MIB),
        (1 * MIB, 2 * MIB),
        (1 * MIB + 1, 20 * MIB),
        (8 * MIB + 128 * KIB, 20 * MIB),  # the cuBLAS workspace
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (409 * MIB + 7, 410 * MIB),
    ],
)
def test_segment_sizes(size: int, segment: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(size)
    assert allocator.reserved_bytes == segment


def test_zero_bytes_allocate_nothing() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(0))
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


# --- splitting -------------------------------------------------------------------------------------------------------


def test_small_pool_splits_off_512_bytes() -> None:
    allocator = CachingAllocator()
    first = allocator.malloc(1 * MIB)
    allocator.malloc(1 * MIB)
    allocator.free(first)
    allocator.malloc(1 * MIB - 512)
    assert layout(allocator) == [[(1 * MIB - 512, True), (512, False), (1 * MIB, True)]]


def test_large_pool_does_not_split_off_1_mib() -> None:
    allocator = CachingAllocator()
    allocator.malloc(19 * MIB)
    assert layout(allocator) == [[(20 * MIB, True)]]
    assert allocator.allocated_bytes == allocator.reserved_bytes == 20 * MIB
    assert allocator.requested_bytes == 19 * MIB


@pytest.mark.parametrize(("size", "blocks"), [(10 * MIB, [11 * MIB]), (10 * MIB - 512, [10 * MIB - 512, MIB + 512])])
def test_large_pool_splits_off_more_than_1_mib(size: int, blocks: list[int]) -> None:
    allocator = CachingAllocator()
    allocator.malloc(9 * MIB)
    allocator.malloc(size)  # from the remaining 11 MiB
    assert [block for block, _ in layout(allocator)[0]] == [9 * MIB, *blocks]


def test_inactive_split_bytes() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(4 * MIB)
    assert allocator.inactive_split_bytes == 16 * MIB
    allocator.free(address)
    assert allocator.inactive_split_bytes == 0


# --- best fit --------------------------------------------------------------------------------------------------------


def test_best_fit_takes_the_smallest_block() -> None:
    allocator = CachingAllocator()
    large, small = allocator.malloc(40 * MIB), allocator.malloc(30 * MIB)
    allocator.free(large)
    allocator.free(small)
    assert allocator.malloc(25 * MIB) == small
    assert allocator.reserved_bytes == 70 * MIB


def test_best_fit_takes_the_lowest_address() -> None:
    allocator = CachingAllocator()
    addresses = [allocator.malloc(12 * MIB) for _ in range(3)]
    for address in reversed(addresses):
        allocator.free(address)
    assert [allocator.malloc(12 * MIB) for _ in range(3)] == sorted(addresses)


def test_pools_are_separate() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(12 * MIB))
    allocator.malloc(512)
    assert allocator.reserved_bytes == 14 * MIB


# --- freeing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_free_blocks_merge(order: tuple[int, ...]) -> None:
    allocator = CachingAllocator()
    addresses = [allocator.malloc(512 * KIB) for _ in range(3)]
    for i in order:
        allocator.free(addresses[i])
    assert layout(allocator) == [[(2 * MIB, False)]]


def test_freed_memory_stays_reserved() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(100 * MIB))
    assert (allocator.allocated_bytes, allocator.requested_bytes, allocator.reserved_bytes) == (0, 0, 100 * MIB)


def test_release_cached_returns_whole_segments() -> None:
    allocator = CachingAllocator()
    allocator.malloc(4 * MIB)
    allocator.free(allocator.malloc(4 * MIB))
    allocator.free(allocator.malloc(30 * MIB))
    allocator.free(allocator.malloc(512))
    allocator.release_cached()
    assert layout(allocator) == [[(4 * MIB, True), (16 * MIB, False)]]
    assert allocator.retries == 0


def test_freeing_twice_raises() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(512)
    allocator.malloc(512)
    allocator.free(address)
    with pytest.raises(ValueError, match="already free"):
        allocator.free(address)
    with pytest.raises(ValueError, match="no block starts"):
        allocator.free(address + 1)


# --- the order of malloc ---------------------------------------------------------------------------------------------


def test_full_device_releases_both_pools_and_retries() -> None:
    allocator = CachingAllocator(capacity_bytes=42 * MIB)
    allocator.free(allocator.malloc(512))
    allocator.free(allocator.malloc(40 * MIB))
    allocator.malloc(41 * MIB)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 42 * MIB


def test_retry_keeps_segments_in_use() -> None:
    allocator = CachingAllocator(capacity_bytes=40 * MIB)
    allocator.malloc(4 * MIB)
    with pytest.raises(OutOfMemory) as error:
        allocator.malloc(22 * MIB - 100)
    assert error.value.requested_bytes == 22 * MIB - 100
    assert error.value.segment_bytes == 22 * MIB
    assert error.value.free_bytes == 20 * MIB
    assert (error.value.allocated_bytes, error.value.reserved_bytes) == (4 * MIB, 20 * MIB)
    assert allocator.retries == 1


def test_capacity_is_exact() -> None:
    CachingAllocator(capacity_bytes=10 * MIB).malloc(10 * MIB)
    with pytest.raises(OutOfMemory, match=r"tried to allocate 10\.0 MiB"):
        CachingAllocator(capacity_bytes=10 * MIB - 1).malloc(10 * MIB)


def test_3_mib_need_a_segment_of_20_mib() -> None:
    allocator = CachingAllocator(capacity_bytes=19 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(3 * MIB)


def test_usable_after_out_of_memory() -> None:
    allocator = CachingAllocator(capacity_bytes=20 * MIB)
    address = allocator.malloc(12 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(12 * MIB)
    allocator.free(address)
    assert allocator.malloc(12 * MIB) == address


# --- expandable segments ---------------------------------------------------------------------------------------------


def test_expandable_page_sizes() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    allocator.malloc(512)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.malloc(25 * MIB)
    assert allocator.reserved_bytes == 42 * MIB


def test_expandable_segments_grow_after_the_free_tail() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    for _ in range(3):
        allocator.malloc(30 * MIB)
    assert layout(allocator) == [[(30 * MIB, True)] * 3 + [(10 * MIB, False)]]
    assert allocator.inactive_split_bytes == 0


def test_expandable_large_pool_splits_off_512_bytes() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    allocator.malloc(20 * MIB - 512)
    assert layout(allocator) == [[(20 * MIB - 512, True), (512, False)]]


def test_expandable_segments_unmap_pages_and_fill_the_lowest_gap() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    first, second, third = allocator.malloc(10 * MIB), allocator.malloc(45 * MIB), allocator.malloc(5 * MIB)
    allocator.free(second)
    allocator.release_cached()  # between 10 and 55 MiB, the only whole page is 20 to 40
    assert [segment.address - first for segment in allocator.snapshot_segments()] == [0, 40 * MIB]
    assert layout(allocator) == [[(10 * MIB, True), (10 * MIB, False)], [(15 * MIB, False), (5 * MIB, True)]]
    assert allocator.malloc(40 * MIB) == second
    assert layout(allocator) == [[(10 * MIB, True), (40 * MIB, True), (5 * MIB, False), (5 * MIB, True)]]
    assert third - first == 55 * MIB


def test_expandable_segments_fill_a_gap_up_to_the_next_free_block() -> None:
    allocator = CachingAllocator(expandable_segments=True)
    first, second, _ = allocator.malloc(20 * MIB), allocator.malloc(30 * MIB), allocator.malloc(10 * MIB)
    allocator.free(first)
    allocator.release_cached()
    allocator.free(second)
    assert allocator.malloc(45 * MIB) == first
    assert layout(allocator) == [[(45 * MIB, True), (5 * MIB, False), (10 * MIB, True)]]
    assert allocator.reserved_bytes == 60 * MIB


def test_expandable_best_fit_counts_growth() -> None:
    allocator = CachingAllocator(capacity_bytes=400 * MIB, expandable_segments=True)
    gap, _ = allocator.malloc(15 * MIB), allocator.malloc(15 * MIB)  # the tail of 10 MiB could grow
    allocator.free(gap)
    assert allocator.malloc(5 * MIB) == gap  # although 10 MiB would be the closer fit


def test_expandable_segments_retry() -> None:
    allocator = CachingAllocator(capacity_bytes=60 * MIB, expandable_segments=True)
    allocator.free(allocator.malloc(512))
    first = allocator.malloc(20 * MIB)
    allocator.malloc(20 * MIB)
    allocator.free(first)
    allocator.malloc(40 * MIB)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 60 * MIB
    with pytest.raises(OutOfMemory):
        allocator.malloc(512)


# --- peaks -----------------------------------------------------------------------------------------------------------


def test_peaks_until_reset() -> None:
    allocator = CachingAllocator()
    first, second = allocator.malloc(12 * MIB), allocator.malloc(14 * MIB - 1)
    allocator.free(first)
    assert (allocator.peak_allocated_bytes, allocator.peak_requested_bytes) == (26 * MIB, 26 * MIB - 1)
    allocator.release_cached()
    assert allocator.peak_reserved_bytes == 26 * MIB
    allocator.reset_peaks()
    assert allocator.peak_reserved_bytes == allocator.peak_allocated_bytes == 14 * MIB
    allocator.free(second)
    assert allocator.peak_requested_bytes == 14 * MIB - 1


# --- properties of random sequences ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Allocate `size` bytes, free the `pick`-th live block (size None), or release the cache (size -1)."""

    size: int | None
    pick: int = 0


SIZES = st.one_of(
    st.integers(0, 4 * KIB),
    st.integers(1, 2 * MIB),
    st.integers(1 * MIB, 60 * MIB),
    st.sampled_from([512, 1 * MIB, 1 * MIB + 1, 2 * MIB, 9 * MIB, 10 * MIB, 19 * MIB, 20 * MIB, 21 * MIB, 40 * MIB]),
)
EVENTS = st.lists(
    st.one_of(
        st.builds(Event, SIZES),
        st.builds(Event, st.none(), st.integers(0, 1000)),
        st.builds(Event, st.sampled_from([None, None, None, -1]), st.integers(0, 1000)),
    ),
    max_size=60,
)
CAPACITIES = st.one_of(st.none(), st.integers(0, 200 * MIB))


def run(allocator: CachingAllocator, events: list[Event]) -> Iterator[object]:
    """Run the events and yield the result of each: an address, None, or the sizes of an out-of-memory error."""
    live: list[int] = []
    for event in events:
        if event.size is None:
            if live:
                allocator.free(live.pop(event.pick % len(live)))
            yield None
        elif event.size < 0:
            allocator.release_cached()
            yield None
        else:
            try:
                live.append(allocator.malloc(event.size))
                yield live[-1]
            except OutOfMemory as error:
                yield ("out of memory", error.requested_bytes, error.segment_bytes, error.free_bytes)
    for address in live:
        allocator.free(address)
    yield None


def check(allocator: CachingAllocator) -> None:
    segments = allocator.snapshot_segments()
    end = 0
    for segment in segments:
        assert segment.address >= end, "overlapping segments"
        end = segment.address
        for block in segment.blocks:
            assert block.address == end, "gap or overlap between blocks"
            end += block.size
        assert end == segment.address + segment.size
        allocated = [block.allocated for block in segment.blocks]
        assert all(a or b for a, b in pairwise(allocated)), "two free neighbours"
    blocks = [block for segment in segments for block in segment.blocks]
    assert sum(block.size for block in blocks if block.allocated) == allocator.allocated_bytes
    assert sum(block.size for block in blocks) == allocator.reserved_bytes
    assert sum(block.requested for block in blocks) == allocator.requested_bytes
    assert allocator.capacity_bytes is None or allocator.reserved_bytes <= allocator.capacity_bytes


@settings(max_examples=150, deadline=None)
@given(EVENTS, CAPACITIES, st.booleans())
def test_invariants_after_every_event(events: list[Event], capacity: int | None, expandable: bool) -> None:
    allocator = CachingAllocator(capacity, expandable_segments=expandable)
    for _ in run(allocator, events):
        check(allocator)
    assert (allocator.allocated_bytes, allocator.requested_bytes, allocator.inactive_split_bytes) == (0, 0, 0)
    allocator.release_cached()
    assert allocator.reserved_bytes == 0
    assert allocator.snapshot_segments() == ()


@settings(max_examples=50, deadline=None)
@given(EVENTS, CAPACITIES, st.booleans())
def test_addresses_are_deterministic(events: list[Event], capacity: int | None, expandable: bool) -> None:
    first, second = (CachingAllocator(capacity, expandable_segments=expandable) for _ in range(2))
    assert list(run(first, events)) == list(run(second, events))


@settings(max_examples=50, deadline=None)
@given(EVENTS, CAPACITIES, st.booleans())
def test_peaks_bound_current_values(events: list[Event], capacity: int | None, expandable: bool) -> None:
    allocator = CachingAllocator(capacity, expandable_segments=expandable)
    highest, earlier = 0, (0, 0, 0)
    for _ in run(allocator, events):
        now = (allocator.allocated_bytes, allocator.requested_bytes, allocator.reserved_bytes)
        peaks = (allocator.peak_allocated_bytes, allocator.peak_requested_bytes, allocator.peak_reserved_bytes)
        assert all(peak >= max(old, value) for peak, old, value in zip(peaks, earlier, now, strict=True))
        highest, earlier = max(highest, allocator.allocated_bytes), peaks
        assert allocator.peak_allocated_bytes == highest
