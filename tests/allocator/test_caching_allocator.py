"""The allocator model: each rule by hand, invariants on random traces, and a slow twin that must agree."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.allocator.twin import Shown, Twin
from vram_cli.allocator.blocks import SegmentInfo
from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.allocator.settings import AllocatorSettings
from vram_cli.errors import ConfigError
from vram_cli.units import KIB, MIB

EXPANDABLE = AllocatorSettings(expandable_segments=True)


def layout(allocator: CachingAllocator) -> list[list[tuple[int, bool]]]:
    """(size, handed out) of each block, segment by segment."""
    return [[(block.size, block.allocated) for block in segment.blocks] for segment in allocator.snapshot_segments()]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "block"), [(1, 512), (512, 512), (513, 1024), (1_000_000, 1_000_448)])
def test_sizes_are_rounded_up_to_512_bytes(size: int, block: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(size)
    assert (allocator.allocated_bytes, allocator.requested_bytes) == (block, size)


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (1, 2 * MIB),
        (1 * MIB, 2 * MIB),
        (1 * MIB + 1, 20 * MIB),
        (8 * MIB + 128 * KIB, 20 * MIB),  # the workspace of cuBLAS
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (409 * MIB + 7, 410 * MIB),
    ],
)
def test_segments_are_2_mib_then_20_mib_then_a_multiple_of_2_mib(size: int, segment: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(size)
    assert allocator.reserved_bytes == segment


def test_zero_bytes_take_nothing() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(0))
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("size", "block"), [(2048, 2048), (2049, 2560), (5000, 5120), (5120, 5120), (7169, 8192), (3 * MIB + 1, 3_670_016)]
)
def test_roundup_power2_divisions_rounds_to_a_quarter_of_the_power_of_two(size: int, block: int) -> None:
    assert AllocatorSettings(roundup_power2_divisions=4).round_size(size) == block


# --- splitting -------------------------------------------------------------------------------------------------------


def test_small_pool_keeps_a_remainder_of_512_bytes() -> None:
    allocator = CachingAllocator()
    first = allocator.malloc(1 * MIB)
    allocator.malloc(1 * MIB)
    allocator.free(first)
    allocator.malloc(1 * MIB - 512)
    assert layout(allocator) == [[(1 * MIB - 512, True), (512, False), (1 * MIB, True)]]


def test_large_pool_hands_out_the_whole_block_when_1_mib_or_less_remains() -> None:
    allocator = CachingAllocator()
    allocator.malloc(19 * MIB)
    assert layout(allocator) == [[(20 * MIB, True)]]
    assert allocator.allocated_bytes == allocator.reserved_bytes == 20 * MIB
    assert allocator.requested_bytes == 19 * MIB


@pytest.mark.parametrize(("size", "blocks"), [(10 * MIB, [11 * MIB]), (10 * MIB - 512, [10 * MIB - 512, MIB + 512])])
def test_large_pool_splits_when_more_than_1_mib_remains(size: int, blocks: list[int]) -> None:
    allocator = CachingAllocator()
    allocator.malloc(9 * MIB)
    allocator.malloc(size)  # of the 11 MiB that are left
    assert [block for block, _ in layout(allocator)[0]] == [9 * MIB, *blocks]


def test_inactive_split_bytes_are_the_free_parts_of_segments_in_use() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(4 * MIB)
    assert allocator.inactive_split_bytes == 16 * MIB
    allocator.free(address)
    assert allocator.inactive_split_bytes == 0


# --- best fit --------------------------------------------------------------------------------------------------------


def test_best_fit_takes_the_smallest_block_that_suffices() -> None:
    allocator = CachingAllocator()
    large, small = allocator.malloc(40 * MIB), allocator.malloc(30 * MIB)
    allocator.free(large)
    allocator.free(small)
    assert allocator.malloc(25 * MIB) == small
    assert allocator.reserved_bytes == 70 * MIB


def test_best_fit_takes_the_lowest_address_among_equal_sizes() -> None:
    allocator = CachingAllocator()
    addresses = [allocator.malloc(12 * MIB) for _ in range(3)]
    for address in reversed(addresses):
        allocator.free(address)
    assert [allocator.malloc(12 * MIB) for _ in range(3)] == sorted(addresses)


def test_pools_do_not_lend_to_each_other() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(12 * MIB))
    allocator.malloc(512)
    assert allocator.reserved_bytes == 14 * MIB


# --- freeing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_free_blocks_merge_with_both_neighbours(order: tuple[int, ...]) -> None:
    allocator = CachingAllocator()
    addresses = [allocator.malloc(512 * KIB) for _ in range(3)]
    for which in order:
        allocator.free(addresses[which])
    assert layout(allocator) == [[(2 * MIB, False)]]


def test_freed_memory_stays_reserved() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(100 * MIB))
    assert (allocator.allocated_bytes, allocator.requested_bytes, allocator.reserved_bytes) == (0, 0, 100 * MIB)


def test_release_cached_gives_back_whole_segments_only() -> None:
    allocator = CachingAllocator()
    allocator.malloc(4 * MIB)
    allocator.free(allocator.malloc(4 * MIB))
    allocator.free(allocator.malloc(30 * MIB))
    allocator.free(allocator.malloc(512))
    allocator.release_cached()
    assert layout(allocator) == [[(4 * MIB, True), (16 * MIB, False)]]
    assert allocator.retries == 0


def test_an_address_is_freed_once() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(512)
    allocator.malloc(512)
    allocator.free(address)
    with pytest.raises(ValueError, match="free already"):
        allocator.free(address)
    with pytest.raises(ValueError, match="nothing starts"):
        allocator.free(address + 1)


# --- the order of malloc ---------------------------------------------------------------------------------------------


def test_a_full_device_makes_it_give_back_the_cache_of_both_pools_and_retry() -> None:
    allocator = CachingAllocator(capacity_bytes=42 * MIB)
    allocator.free(allocator.malloc(512))
    allocator.free(allocator.malloc(40 * MIB))
    allocator.malloc(41 * MIB)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 42 * MIB


def test_a_retry_does_not_give_back_a_segment_that_is_partly_used() -> None:
    allocator = CachingAllocator(capacity_bytes=40 * MIB)
    allocator.malloc(4 * MIB)
    with pytest.raises(OutOfMemory) as error:
        allocator.malloc(22 * MIB - 100)
    assert error.value.requested_bytes == 22 * MIB - 100
    assert error.value.segment_bytes == 22 * MIB
    assert error.value.free_bytes == 20 * MIB
    assert (error.value.allocated_bytes, error.value.reserved_bytes) == (4 * MIB, 20 * MIB)
    assert allocator.retries == 1


def test_the_capacity_itself_may_be_taken_and_not_a_byte_more() -> None:
    CachingAllocator(capacity_bytes=10 * MIB).malloc(10 * MIB)
    with pytest.raises(OutOfMemory, match=r"tried to allocate 10\.0 MiB"):
        CachingAllocator(capacity_bytes=10 * MIB - 1).malloc(10 * MIB)


def test_a_3_mib_tensor_needs_20_mib_of_the_device() -> None:
    allocator = CachingAllocator(capacity_bytes=19 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(3 * MIB)


def test_it_can_be_used_on_after_out_of_memory() -> None:
    allocator = CachingAllocator(capacity_bytes=20 * MIB)
    address = allocator.malloc(12 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(12 * MIB)
    allocator.free(address)
    assert allocator.malloc(12 * MIB) == address


# --- expandable segments ---------------------------------------------------------------------------------------------


def test_expandable_segments_map_2_mib_pages_for_small_and_20_mib_pages_for_large_blocks() -> None:
    allocator = CachingAllocator(settings=EXPANDABLE)
    allocator.malloc(512)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.malloc(25 * MIB)
    assert allocator.reserved_bytes == 42 * MIB


def test_expandable_segments_grow_behind_the_free_tail() -> None:
    allocator = CachingAllocator(settings=EXPANDABLE)
    for _ in range(3):
        allocator.malloc(30 * MIB)
    assert layout(allocator) == [[(30 * MIB, True)] * 3 + [(10 * MIB, False)]]
    assert allocator.inactive_split_bytes == 0


def test_expandable_segments_keep_a_remainder_of_512_bytes_of_large_blocks() -> None:
    allocator = CachingAllocator(settings=EXPANDABLE)
    allocator.malloc(20 * MIB - 512)
    assert layout(allocator) == [[(20 * MIB - 512, True), (512, False)]]


def test_expandable_segments_give_back_whole_pages_and_fill_the_lowest_hole_first() -> None:
    allocator = CachingAllocator(settings=EXPANDABLE)
    first, second, third = allocator.malloc(10 * MIB), allocator.malloc(45 * MIB), allocator.malloc(5 * MIB)
    allocator.free(second)
    allocator.release_cached()  # of 10 to 55 MiB only the page from 20 to 40 lies whole within
    assert [segment.address - first for segment in allocator.snapshot_segments()] == [0, 40 * MIB]
    assert layout(allocator) == [[(10 * MIB, True), (10 * MIB, False)], [(15 * MIB, False), (5 * MIB, True)]]
    assert allocator.malloc(40 * MIB) == second
    assert layout(allocator) == [[(10 * MIB, True), (40 * MIB, True), (5 * MIB, False), (5 * MIB, True)]]
    assert third - first == 55 * MIB


def test_expandable_segments_fill_a_hole_up_to_the_free_block_behind_it() -> None:
    allocator = CachingAllocator(settings=EXPANDABLE)
    first, second, _ = allocator.malloc(20 * MIB), allocator.malloc(30 * MIB), allocator.malloc(10 * MIB)
    allocator.free(first)
    allocator.release_cached()
    allocator.free(second)
    assert allocator.malloc(45 * MIB) == first
    assert layout(allocator) == [[(45 * MIB, True), (5 * MIB, False), (10 * MIB, True)]]
    assert allocator.reserved_bytes == 60 * MIB


def test_expandable_best_fit_counts_what_the_last_block_could_grow_to() -> None:
    allocator = CachingAllocator(capacity_bytes=400 * MIB, settings=EXPANDABLE)
    hole, _ = allocator.malloc(15 * MIB), allocator.malloc(15 * MIB)  # the tail that could grow is 10 MiB
    allocator.free(hole)
    assert allocator.malloc(5 * MIB) == hole  # although 10 MiB would be the closer fit


def test_expandable_segments_retry_within_the_capacity() -> None:
    allocator = CachingAllocator(capacity_bytes=60 * MIB, settings=EXPANDABLE)
    allocator.free(allocator.malloc(512))
    first = allocator.malloc(20 * MIB)
    allocator.malloc(20 * MIB)
    allocator.free(first)
    allocator.malloc(40 * MIB)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 60 * MIB
    with pytest.raises(OutOfMemory):
        allocator.malloc(512)


# --- max_split_size_mb -----------------------------------------------------------------------------------------------

UNSPLIT = AllocatorSettings(max_split_size_mb=100)


def test_max_split_size_keeps_oversize_blocks_from_smaller_requests() -> None:
    allocator = CachingAllocator(settings=UNSPLIT)
    allocator.free(allocator.malloc(100 * MIB))
    allocator.malloc(99 * MIB)
    assert layout(allocator) == [[(100 * MIB, False)], [(100 * MIB, True)]]  # 99 of 100: 1 MiB is not split off


def test_max_split_size_hands_out_oversize_blocks_whole_and_only_up_to_20_mib_larger() -> None:
    allocator = CachingAllocator(settings=UNSPLIT)
    allocator.free(allocator.malloc(130 * MIB))
    allocator.malloc(112 * MIB)
    assert layout(allocator) == [[(130 * MIB, True)]]
    allocator.free(allocator.malloc(150 * MIB))
    allocator.malloc(130 * MIB)
    assert layout(allocator) == [[(130 * MIB, True)], [(150 * MIB, False)], [(130 * MIB, True)]]


def test_max_split_size_itself_is_oversize() -> None:
    allocator = CachingAllocator(settings=UNSPLIT)
    allocator.free(allocator.malloc(110 * MIB))
    allocator.malloc(100 * MIB)
    assert layout(allocator) == [[(110 * MIB, True)]]
    allocator = CachingAllocator(capacity_bytes=210 * MIB, settings=UNSPLIT)
    for address in [allocator.malloc(100 * MIB), allocator.malloc(100 * MIB)]:
        allocator.free(address)
    allocator.malloc(190 * MIB)
    assert (allocator.reserved_bytes, allocator.retries) == (190 * MIB, 0)


def test_max_split_size_gives_back_only_the_oversize_blocks_that_are_needed() -> None:
    allocator = CachingAllocator(capacity_bytes=500 * MIB, settings=UNSPLIT)
    addresses = [allocator.malloc(size * MIB) for size in (160, 200, 110)]
    for address in addresses:
        allocator.free(address)
    allocator.malloc(180 * MIB)  # the cached 200 MiB are exactly 20 MiB too large: given back, the others kept
    assert layout(allocator) == [[(160 * MIB, False)], [(110 * MIB, False)], [(180 * MIB, True)]]
    allocator.malloc(230 * MIB)  # no single block suffices: 160 and 110 together do
    assert layout(allocator) == [[(180 * MIB, True)], [(230 * MIB, True)]]
    assert allocator.retries == 0


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_read_as_pytorch_writes_them() -> None:
    parsed = AllocatorSettings.parse("expandable_segments:True, max_split_size_mb:128,roundup_power2_divisions:8")
    assert parsed == AllocatorSettings(expandable_segments=True, max_split_size_mb=128, roundup_power2_divisions=8)
    assert AllocatorSettings.parse("") == AllocatorSettings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("garbage_collection_threshold:0.8", "garbage_collection_threshold"),
        ("expandable_segments:yes", "expandable_segments:yes"),
        ("max_split_size_mb:20", "max_split_size_mb"),
        ("roundup_power2_divisions:3", "roundup_power2_divisions"),
        ("backend:cudaMallocAsync", "backend:cudaMallocAsync"),
    ],
)
def test_settings_that_are_not_modelled_are_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        AllocatorSettings.parse(text)
    assert error.value.hint


# --- peaks -----------------------------------------------------------------------------------------------------------


def test_peaks_are_kept_until_they_are_reset() -> None:
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


# --- properties on random traces -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """An allocation of `size`, the free of the `pick`-th live one (size None), or a release of the cache (size -1)."""

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
SETTINGS = st.builds(
    AllocatorSettings,
    expandable_segments=st.booleans(),
    roundup_power2_divisions=st.sampled_from([1, 1, 2, 8]),
    max_split_size_mb=st.sampled_from([None, None, 21, 32]),
)


def replay(allocator: CachingAllocator | Twin, events: list[Event]) -> Iterator[object]:
    """Run the events and say after each what it answered: an address, None, or the sizes of an out-of-memory."""
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
    yield "all freed"


def check(allocator: CachingAllocator) -> None:
    segments = allocator.snapshot_segments()
    end = 0
    for segment in segments:
        assert segment.address >= end, "segments overlap"
        end = segment.address
        for block in segment.blocks:
            assert block.address == end, "a gap or an overlap between blocks"
            end += block.size
        assert end == segment.address + segment.size
        kinds = [block.allocated for block in segment.blocks]
        assert not any(not a and not b for a, b in pairwise(kinds)), "two free neighbours"
    blocks = [block for segment in segments for block in segment.blocks]
    allocated = sum(block.size for block in blocks if block.allocated)
    assert allocated == allocator.allocated_bytes
    assert allocated + sum(block.size for block in blocks if not block.allocated) == allocator.reserved_bytes
    assert sum(block.requested for block in blocks) == allocator.requested_bytes
    assert allocator.capacity_bytes is None or allocator.reserved_bytes <= allocator.capacity_bytes


@settings(max_examples=150, deadline=None)
@given(EVENTS, CAPACITIES, SETTINGS)
def test_blocks_never_overlap_and_bytes_are_conserved(
    events: list[Event], capacity: int | None, options: AllocatorSettings
) -> None:
    allocator = CachingAllocator(capacity, options)
    for _ in replay(allocator, events):
        check(allocator)
    assert (allocator.allocated_bytes, allocator.requested_bytes, allocator.inactive_split_bytes) == (0, 0, 0)
    allocator.release_cached()
    assert allocator.reserved_bytes == 0
    assert allocator.snapshot_segments() == ()


@settings(max_examples=50, deadline=None)
@given(EVENTS, CAPACITIES, SETTINGS)
def test_the_same_trace_gives_the_same_addresses(
    events: list[Event], capacity: int | None, options: AllocatorSettings
) -> None:
    once, again = CachingAllocator(capacity, options), CachingAllocator(capacity, options)
    assert list(replay(once, events)) == list(replay(again, events))


@settings(max_examples=50, deadline=None)
@given(EVENTS, CAPACITIES, SETTINGS)
def test_peaks_only_rise_and_never_lie_below_the_present(
    events: list[Event], capacity: int | None, options: AllocatorSettings
) -> None:
    allocator = CachingAllocator(capacity, options)
    highest, before = 0, (0, 0, 0)
    for _ in replay(allocator, events):
        now = (allocator.allocated_bytes, allocator.requested_bytes, allocator.reserved_bytes)
        peaks = (allocator.peak_allocated_bytes, allocator.peak_requested_bytes, allocator.peak_reserved_bytes)
        assert all(peak >= max(old, value) for peak, old, value in zip(peaks, before, now, strict=True))
        highest, before = max(highest, allocator.allocated_bytes), peaks
        assert allocator.peak_allocated_bytes == highest


# --- the twin --------------------------------------------------------------------------------------------------------


def shown(segments: tuple[SegmentInfo, ...]) -> Shown:
    return [
        (s.address, s.size, s.small, [(b.address, b.size, b.requested, b.allocated) for b in s.blocks])
        for s in segments
    ]  # fmt: skip


def assert_agree(events: list[Event], capacity: int | None, options: AllocatorSettings) -> CachingAllocator:
    model, twin = CachingAllocator(capacity, options), Twin(capacity, options)
    for answer, expected in zip(replay(model, events), replay(twin, events), strict=True):
        assert answer == expected
        assert model.retries == twin.retries
        assert (model.allocated_bytes, model.reserved_bytes) == (twin.total("live"), twin.total("live", "free"))
        assert shown(model.snapshot_segments()) == twin.shown()
    return model


@settings(max_examples=250, deadline=None)
@given(EVENTS, CAPACITIES, SETTINGS)
def test_the_twin_agrees_event_by_event(events: list[Event], capacity: int | None, options: AllocatorSettings) -> None:
    assert_agree(events, capacity, options)


@pytest.mark.parametrize("options", [AllocatorSettings(), EXPANDABLE, AllocatorSettings(max_split_size_mb=32)], ids=str)
def test_the_twin_agrees_on_a_long_trace_near_the_capacity(options: AllocatorSettings) -> None:
    rng = random.Random(20)
    events = [
        Event(None, rng.randrange(1000)) if rng.random() < 0.48 else Event(int(2 ** rng.uniform(6, 26)))
        for _ in range(1500)
    ]
    model = assert_agree(events, 250 * MIB, options)
    assert model.retries > 10
