"""Snapshots of simulated runs, read by PyTorch's own code."""

from __future__ import annotations

import pickle
import pickletools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.cuda import _memory_viz as viz

from vram_cli.allocator.allocation_trace import Action, AllocationTrace, Storage
from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.allocator.snapshot import snapshot_of, write_snapshot
from vram_cli.config import load_config
from vram_cli.errors import ConfigError
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.units import MIB

TRACE = AllocationTrace(
    (
        Storage(3 * MIB, Category.PARAMETERS, "aten.empty", "block.first"),
        Storage(30 * MIB, Category.ACTIVATIONS, "aten.relu", "block"),
        Storage(1000, Category.TEMPORARIES, "aten.mul"),
        Storage(0, Category.TEMPORARIES, "aten.empty"),
    ),
    (Phase.BUILD, 0),
    ((Phase.FORWARD, 1, 2, 3, Phase.BACKWARD, ~1, ~3, ~2),),
    {},
)

# The opcodes that torch/utils/viz/MemoryViz.js can unpickle.
READABLE = {
    "APPEND", "APPENDS", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPUT", "BINUNICODE", "DICT",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "FRAME", "LIST", "LONG1", "LONG_BINGET", "LONG_BINPUT", "MARK",
    "MEMOIZE", "NEWFALSE", "NEWTRUE", "NONE", "PROTO", "SETITEM", "SETITEMS", "SHORT_BINUNICODE", "STOP", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3",
}  # fmt: skip


def check(snapshot: dict[str, Any]) -> None:
    """Replay the events: blocks lie in reserved memory, and the final state matches the segments."""
    reserved: dict[int, int] = {}  # by MiB
    live: dict[int, int] = {}
    for event in snapshot["device_traces"][0]:
        action, address, size = event["action"], event["addr"], event["size"]
        pages = range(address // MIB, (address + size + MIB - 1) // MIB)
        if action in ("segment_alloc", "segment_map"):
            assert not reserved.keys() & pages
            reserved |= dict.fromkeys(pages, 1)
        elif action in ("segment_free", "segment_unmap"):
            for page in pages:
                del reserved[page]
        elif action == "alloc":
            assert reserved.keys() >= set(pages)
            live[address] = size
        elif action == "free_completed":
            assert live.pop(address) == size
    segments = snapshot["segments"]
    assert sum(segment["total_size"] for segment in segments) == len(reserved) * MIB
    blocks = [block for segment in segments for block in segment["blocks"] if block["state"] == "active_allocated"]
    assert {block["address"]: block["requested_size"] for block in blocks} == live
    for segment in segments:
        assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]


def test_events_by_hand() -> None:
    snapshot = snapshot_of(TRACE)
    first, *_ = {event["addr"] for event in snapshot["device_traces"][0] if event["action"] == "segment_alloc"}
    events = [(event["action"], event["size"]) for event in snapshot["device_traces"][0]]
    assert events == [
        ("segment_alloc", 20 * MIB),
        ("alloc", 3 * MIB),
        ("segment_alloc", 30 * MIB),
        ("alloc", 30 * MIB),
        ("segment_alloc", 2 * MIB),
        ("alloc", 1000),
        ("free_requested", 30 * MIB),
        ("free_completed", 30 * MIB),
        ("free_requested", 1000),
        ("free_completed", 1000),
        ("snapshot", 0),
    ]
    assert first > 0
    check(snapshot)


def test_frames_name_category_operation_module_and_phase() -> None:
    events = [event for event in snapshot_of(TRACE)["device_traces"][0] if event["action"] == "alloc"]
    assert [viz._frames_fmt(event["frames"]) for event in events] == [
        ["parameters:0:aten.empty", "model:0:block.first", "model:0:block", "predicted by vram:0:build"],
        ["activations:0:aten.relu", "model:0:block", "predicted by vram:0:forward"],
        ["temporaries:0:aten.mul", "predicted by vram:0:forward"],
    ]


def test_out_of_memory_is_the_last_event() -> None:
    snapshot = snapshot_of(TRACE, 49 * MIB)
    *_, oom, _ = snapshot["device_traces"][0]
    assert (oom["action"], oom["size"], oom["device_free"]) == ("oom", 30 * MIB, 29 * MIB)
    assert "raise OutOfMemoryError # 30.0MiB requested, 29.0MiB free in CUDA" in viz.trace(snapshot)
    check(snapshot)


@st.composite
def traces(draw: st.DrawFn) -> AllocationTrace:
    sizes = draw(st.lists(st.integers(0, 40 * MIB), min_size=1, max_size=40))
    actions: list[Action] = list(range(len(sizes)))
    for i in draw(st.sets(st.integers(0, len(sizes) - 1))):
        actions.insert(draw(st.integers(actions.index(i) + 1, len(actions))), ~i)
    return AllocationTrace(
        tuple(Storage(size, Category.ACTIVATIONS) for size in sizes), (), ((Phase.FORWARD, *actions),), {}
    )


def runs_out_of_memory(trace: AllocationTrace, allocator: CachingAllocator) -> bool:
    addresses = {}
    try:
        for action in trace.steps[0][1:]:
            assert not isinstance(action, Phase)
            if action >= 0:
                addresses[action] = allocator.malloc(trace.storages[action].bytes)
            else:
                allocator.free(addresses[~action])
    except OutOfMemory:
        return True
    return False


@given(traces(), st.none() | st.integers(20 * MIB, 400 * MIB), st.booleans())
@settings(max_examples=60, deadline=None)
def test_snapshots_are_consistent(trace: AllocationTrace, capacity: int | None, expandable: bool) -> None:
    snapshot = snapshot_of(trace, capacity, expandable_segments=expandable)
    check(snapshot)
    assert f"total_reserved: {viz.Bytes(sum(s['total_size'] for s in snapshot['segments']))}" in viz.segsum(snapshot)
    failed = "oom" in [event["action"] for event in snapshot["device_traces"][0]]
    assert failed is runs_out_of_memory(trace, CachingAllocator(capacity, expandable_segments=expandable))


def test_pytorch_reads_the_snapshot_of_a_model(tmp_path: Path) -> None:
    probe = FakeTensorProbe(load_config("resnet18_cifar10"), find_gpu("t4"))
    path = tmp_path / "run.pickle"
    probe.save_snapshot(64, path)
    raw = path.read_bytes()
    assert {op.name for op, _, _ in pickletools.genops(raw)} <= READABLE
    snapshot = pickle.loads(raw)
    check(snapshot)
    assert viz.segsum(snapshot).startswith("Summary of segments")
    assert "cudaMalloc" in viz.trace(snapshot)
    for kind in ("Active Memory Timeline", "Allocator State History"):
        assert "snapshot.pickle" in viz._format_viz(snapshot, kind, None)
    flames = viz.memory(snapshot, format_flamegraph=lambda lines: lines)
    assert "stream_0;active_allocated;predicted by vram:0:build;model:0:layer1;" in flames
    categories = Counter(event.get("category") for event in snapshot["device_traces"][0])
    # The viewer's legend needs a category named "unknown".
    assert categories["unknown"] == 1
    assert {"parameters", "gradients", "optimizer_state", "batch_data", "activations", "temporaries"} < set(categories)


def test_snapshot_peak_equals_the_prediction(tmp_path: Path) -> None:
    probe = FakeTensorProbe(load_config("resnet18_cifar10"), find_gpu("t4"))
    probe.save_snapshot(64, tmp_path / "run.pickle")
    live = highest = 0
    for event in pickle.loads((tmp_path / "run.pickle").read_bytes())["device_traces"][0]:
        change = {"alloc": 1, "free_completed": -1}.get(event["action"], 0)
        live += change * event["size"]
        highest = max(highest, live)
    breakdown = probe.measure(64, explain=True).breakdown
    assert breakdown is not None
    assert highest == breakdown.tensor_bytes


def test_write_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/run\.pickle: the folder .*nowhere does not exist"):
        write_snapshot(snapshot_of(TRACE), tmp_path / "nowhere" / "run.pickle")
