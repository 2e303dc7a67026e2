"""Traces and their replay, against cases computed by hand and against simulations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.accounting.storage_tracker import StorageRecord
from vram_cli.allocator.allocation_trace import AllocationTrace, AllocatorCall, Storage, linear_trace, trace_from
from vram_cli.allocator.replay import replay
from vram_cli.allocator.snapshot import snapshot_of
from vram_cli.config import load_config
from vram_cli.fake_tensors import Simulation, training_from_config
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.units import MIB

LARGE_SEGMENT = 20 * MIB


def record(
    size: int, allocated_at: int, freed_at: int | None = None, category: Category | None = None
) -> StorageRecord:
    return StorageRecord(size, allocated_at, freed_at, Phase.FORWARD, category)


def example(activation: int = 30 * MIB) -> AllocationTrace:
    """Parameters of 4 MiB; each step allocates an activation, and a gradient that lives until the next step."""
    records = [
        record(4 * MIB, 1, category=Category.PARAMETERS),
        record(activation, 2, 4, Category.ACTIVATIONS),
        record(4 * MIB, 3, 5, Category.GRADIENTS),
        record(activation, 6, 8, Category.ACTIVATIONS),
        record(4 * MIB, 7, None, Category.GRADIENTS),
    ]
    markers = [(0, Phase.BUILD), (1, None), (1, Phase.FORWARD), (2, Phase.BACKWARD)]
    return trace_from(records, [*markers, (4, None), (5, Phase.FORWARD), (6, Phase.BACKWARD), (8, None)])


def test_trace_is_ordered_and_cut_into_steps() -> None:
    trace = example()
    assert trace.setup == (Phase.BUILD, 0)
    assert trace.steps == (
        (Phase.FORWARD, 1, Phase.BACKWARD, 2, ~1),
        (~2, Phase.FORWARD, 3, Phase.BACKWARD, 4, ~3),
    )
    assert trace.persistent == {2: 4}
    assert trace.repeats


def test_replay_by_hand() -> None:
    """4 MiB of parameters and 4 MiB of gradients share a segment of 20 MiB; 30 MiB have one of their own."""
    result = replay(example(), steps=5)
    assert result.failure is None
    assert result.steps == 5
    assert {peak.phase: (peak.allocated_bytes, peak.reserved_bytes) for peak in result.peaks} == {
        Phase.BUILD: (4 * MIB, LARGE_SEGMENT),
        Phase.FORWARD: (34 * MIB, LARGE_SEGMENT + 30 * MIB),
        Phase.BACKWARD: (38 * MIB, LARGE_SEGMENT + 30 * MIB),
    }
    assert result.resident_bytes == 4 * MIB
    assert result.bytes_at_peak == {
        Category.PARAMETERS: 4 * MIB,
        Category.ACTIVATIONS: 30 * MIB,
        Category.GRADIENTS: 4 * MIB,
    }
    assert result.peak_phase is Phase.BACKWARD


def test_replay_fails_at_the_memory_limit() -> None:
    result = replay(example(), LARGE_SEGMENT + 30 * MIB - 1)
    assert result.failure is not None
    assert result.failure.requested_bytes == 30 * MIB
    assert (result.failed_phase, result.steps) == (Phase.FORWARD, 0)
    assert result.failed_storage == Storage(30 * MIB, Category.ACTIVATIONS)
    assert replay(example(), LARGE_SEGMENT + 30 * MIB).failure is None


def test_step_that_changes_memory_is_not_repeated() -> None:
    records = [record(MIB, 1, 3), record(2 * MIB, 2)]
    trace = trace_from(records, [(0, None), (0, Phase.FORWARD), (1, None), (3, None)])
    assert not trace.repeats
    assert replay(trace, steps=5).steps == 2


@pytest.mark.parametrize("limit", [91 * MIB, None])
def test_peak_reserved_survives_a_released_cache(limit: int | None) -> None:
    """With 91 MiB, the cached 90 MiB are released for the small tensor, which needs a segment of 2 MiB."""
    storages = (Storage(90 * MIB, Category.ACTIVATIONS), Storage(1000, Category.TEMPORARIES))
    step = (Phase.FORWARD, 0, ~0, Phase.BACKWARD, 1, ~1)
    result = replay(AllocationTrace(storages, (), (step,), {}), limit)
    assert result.failure is None
    assert (result.retries > 0) is (limit is not None)
    assert result.reserved_bytes == (90 if limit else 92) * MIB
    assert result.bytes_at_peak[Category.ACTIVATIONS] == 90 * MIB


def test_empty_cache_returns_memory() -> None:
    """30 MiB are freed and cached; 40 MiB do not fit there. A snapshot shows when the cache was released."""
    records = [record(30 * MIB, 1, 2), record(40 * MIB, 3, 4)]
    phases: list[tuple[int, Phase | AllocatorCall | None]] = [(0, None), (0, Phase.FORWARD)]
    cached = trace_from(records, [*phases, (4, None)])
    emptied = trace_from(records, [*phases, (2, AllocatorCall.EMPTY_CACHE), (4, None)])
    assert emptied.steps == ((Phase.FORWARD, 0, ~0, AllocatorCall.EMPTY_CACHE, 1, ~1),)
    assert [replay(trace).peaks[-1].reserved_bytes for trace in (cached, emptied)] == [70 * MIB, 40 * MIB]
    assert [replay(trace, 60 * MIB, steps=1).retries for trace in (cached, emptied)] == [1, 0]
    actions = [event["action"] for event in snapshot_of(emptied)["device_traces"][0]]
    assert actions.index("segment_free") < actions.index("alloc", actions.index("free_completed"))


def test_expandable_segments_reserve_whole_pages() -> None:
    result = replay(example(), expandable_segments=True)
    assert max(peak.reserved_bytes for peak in result.peaks) == 2 * LARGE_SEGMENT


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 5000))
def test_line_reproduces_every_size(first: int, step: int, other: int) -> None:
    def at(n: int) -> AllocationTrace:
        return example(activation=1000 + 12 * n)

    line = linear_trace(at(first), first, at(first + step), first + step)
    assert line is not None
    assert line.at(other) == at(other)


def test_no_line_through_different_sequences() -> None:
    other = trace_from([record(MIB, 1)], [(0, None), (0, Phase.FORWARD), (1, None)])
    assert linear_trace(example(), 1, other, 2) is None


@pytest.mark.parametrize(
    ("name", "precision", "benchmark"),
    [
        ("mlp_mnist", "fp32", False),
        ("cnn_cifar10", "fp32", False),
        ("cnn_cifar10", "amp-fp16", True),
        ("resnet18_cifar10", "amp-fp16", False),
    ],
)
def test_line_through_two_sizes_is_exact_at_a_third(name: str, precision: str, benchmark: bool) -> None:
    training, _ = training_from_config(load_config(name, [f"precision={precision}"]))
    simulation = Simulation(training, find_gpu("a100-80gb"), cudnn_benchmark=benchmark)
    small, large, third = (simulation.trace(n) for n in (2, 37, 1000))
    line = linear_trace(small, 2, large, 37)
    assert line is not None
    assert line.at(1000) == third
