"""Write a simulated run as a memory snapshot for PyTorch's viewer (pytorch.org/memory_viz).

Fields are those of `torch.cuda.memory._snapshot()`, which is read by torch/cuda/_memory_viz.py and
torch/utils/viz/MemoryViz.js in pytorch/pytorch.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

from vram_cli.allocator.allocation_trace import Action, AllocationTrace, AllocatorCall, Storage
from vram_cli.allocator.blocks import BlockInfo, SegmentInfo
from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.files import write_file
from vram_cli.records import Phase

_PROTOCOL = 4  # the viewer reads protocols 2 to 4; Python's default is 5 since 3.14
_UNKNOWN = "unknown"  # the viewer fails if events have categories and none of them has this name

Frames = list[dict[str, Any]]


def snapshot_of(
    trace: AllocationTrace, capacity_bytes: int | None = None, *, expandable_segments: bool = False
) -> dict[str, Any]:
    """Replay the trace once, and return all events and the final state of the allocator.

    If memory runs out, that is the last event. In place of a Python stack, an allocation has its category and
    operation, the modules around it, and the phase.
    """
    run = _Run(trace, CachingAllocator(capacity_bytes, expandable_segments=expandable_segments))
    run.replay()
    return {
        "segments": [_segment(segment, run.frames_at) for segment in run.allocator.snapshot_segments()],
        "device_traces": [run.events],
        "allocator_settings": {
            "expandable_segments": expandable_segments,
            "max_split_size": -1,
            "roundup_power2_divisions": 1,
        },
        "external_annotations": [],
    }


def write_snapshot(snapshot: dict[str, Any], path: Path) -> None:
    """Write a snapshot; an existing file is replaced.

    Raises:
        ConfigError, MachineError: the file cannot be written.
    """
    write_file(pickle.dumps(snapshot, protocol=_PROTOCOL), path, force=True)


class _Run:
    """Replays a trace and records events in the order in which PyTorch does (record_trace)."""

    def __init__(self, trace: AllocationTrace, allocator: CachingAllocator) -> None:
        self.allocator = allocator
        self.events: list[dict[str, Any]] = []
        self.frames_at: dict[int, Frames] = {}
        """The frames of allocated blocks, by address."""
        self._trace = trace
        self._addresses: dict[int, int] = {}
        self._phase = Phase.BUILD
        self._frames: Frames = []
        allocator.on_segment = self._note

    def replay(self) -> None:
        """Replay the trace to its end, or until memory runs out."""
        try:
            for actions in (self._trace.setup, *self._trace.steps):
                for action in actions:
                    self._act(action)
        except OutOfMemory as failure:
            self._note("oom", 0, failure.requested_bytes, device_free=failure.free_bytes)
        self._frames = []
        self._note("snapshot", 0, 0, category=_UNKNOWN)

    def _act(self, action: Action) -> None:
        if isinstance(action, Phase):
            self._phase = action
        elif isinstance(action, AllocatorCall):
            self.allocator.release_cached()
        elif action >= 0:
            self._allocate(action)
        else:
            self._free(~action)

    def _allocate(self, i: int) -> None:
        storage = self._trace.storages[i]
        self._frames = _frames(storage._replace(bytes=0), self._phase)
        address = self._addresses[i] = self.allocator.malloc(storage.bytes)
        if address:
            self.frames_at[address] = self._frames
            self._note("alloc", address, storage.bytes, category=storage.category.value)

    def _free(self, i: int) -> None:
        address = self._addresses.pop(i)
        self.allocator.free(address)
        if address:
            self._frames = self.frames_at.pop(address)
            for action in ("free_requested", "free_completed"):
                self._note(action, address, self._trace.storages[i].bytes)

    def _note(self, action: str, address: int, size: int, **more: Any) -> None:
        """Record an event; the time is a count of events, for lack of a clock."""
        entry = {"action": action, "addr": address, "size": size, "stream": 0, "time_us": len(self.events)}
        self.events.append({**entry, "frames": self._frames, **more})


@cache
def _frames(storage: Storage, phase: Phase) -> Frames:
    """Return frames in place of a call stack, innermost first; cached, since most allocations repeat."""
    names = storage.module.split(".") if storage.module else []
    modules = [".".join(names[: depth + 1]) for depth in range(len(names))]
    return [
        _frame(storage.category.value, storage.op or "allocation"),
        *(_frame("model", module) for module in reversed(modules)),
        _frame("predicted by vram", phase.value),
    ]


def _frame(filename: str, name: str) -> dict[str, Any]:
    return {"filename": filename, "line": 0, "name": name}


def _segment(segment: SegmentInfo, frames_at: dict[int, Frames]) -> dict[str, Any]:
    allocated_blocks = [block for block in segment.blocks if block.allocated]
    allocated = sum(block.size for block in allocated_blocks)
    return {
        "device": 0,
        "address": segment.address,
        "total_size": segment.size,
        "allocated_size": allocated,
        "active_size": allocated,
        "requested_size": sum(block.requested for block in allocated_blocks),
        "stream": 0,
        "segment_type": "small" if segment.small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": segment.expandable,
        "frames": [],
        "blocks": [_block(block, frames_at) for block in segment.blocks],
    }


def _block(block: BlockInfo, frames_at: dict[int, Frames]) -> dict[str, Any]:
    return {
        "address": block.address,
        "size": block.size,
        "requested_size": block.requested,
        "state": "active_allocated" if block.allocated else "inactive",
        "frames": frames_at[block.address] if block.allocated else [],
    }
