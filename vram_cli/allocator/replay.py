"""Replay a trace in the allocator model with a memory limit: peaks per phase, or the allocation that failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vram_cli.allocator.allocation_trace import Action, AllocationTrace, AllocatorCall, Storage
from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.records import Category, Phase, PhasePeak

MAX_STEPS = 10
"""Steps after which a replay ends even if reserved memory still grows."""


@dataclass(kw_only=True)
class ReplayResult:
    """The peaks of a replay, and its failure if memory ran out."""

    peaks: tuple[PhasePeak, ...]
    steps: int
    """Steps that ran to the end."""
    retries: int
    resident_bytes: int
    """Allocated bytes at the start of a forward pass, without the batch."""
    bytes_at_peak: Counter[Category] = field(default_factory=Counter)
    """Requested bytes per category at the peak of the last step, without `ALLOCATOR_SLACK`."""
    peak_phase: Phase = Phase.BUILD
    reserved_bytes: int = 0
    """Peak reserved bytes of the last step."""
    failure: OutOfMemory | None = None
    failed_phase: Phase | None = None
    failed_storage: Storage | None = None


def replay(
    trace: AllocationTrace,
    capacity_bytes: int | None = None,
    *,
    expandable_segments: bool = False,
    steps: int = 3,
) -> ReplayResult:
    """Replay the setup and at least `steps` steps, repeating the last one until reserved memory no longer grows.

    If the last step leaves other memory than it found, only the first `steps` steps of the trace are replayed.
    """
    return _Replay(trace, CachingAllocator(capacity_bytes, expandable_segments=expandable_segments)).run(steps)


class _Replay:
    def __init__(self, trace: AllocationTrace, allocator: CachingAllocator) -> None:
        self._trace, self._allocator = trace, allocator
        self._addresses: dict[int, int] = {}
        self._phase = Phase.BUILD
        self._peaks: dict[Phase, PhasePeak] = {}
        self._resident_bytes = self._steps = self._step_peak_reserved = 0
        self._live: Counter[Category] = Counter()
        self._peak_bytes, self._bytes_at_peak, self._peak_phase = -1, Counter[Category](), Phase.BUILD
        self._last_allocation: int | None = None

    def run(self, steps: int) -> ReplayResult:
        try:
            self._replay(self._trace.setup)
            before, after = -1, 0
            if not self._trace.repeats:
                for _ in self._trace.steps[:steps]:
                    self._step()
                return self._result(None)
            while self._steps < steps or (after > before and self._steps < MAX_STEPS):
                before = self._allocator.reserved_bytes
                self._step()
                after = self._allocator.reserved_bytes
        except OutOfMemory as failure:
            self._end_phase()
            return self._result(failure)
        return self._result(None)

    def _step(self) -> None:
        trace, number = self._trace, min(self._steps, len(self._trace.steps) - 1)
        if self._steps >= len(trace.steps):
            for old, new in trace.persistent.items():
                self._addresses[old] = self._addresses.pop(new)
        self._peak_bytes, self._step_peak_reserved = -1, 0
        self._replay(trace.steps[number])
        self._steps += 1

    def _replay(self, actions: tuple[Action, ...]) -> None:
        allocator, storages, addresses, live = self._allocator, self._trace.storages, self._addresses, self._live
        for action in actions:
            if isinstance(action, Phase):
                self._begin_phase(action)
            elif isinstance(action, AllocatorCall):
                allocator.release_cached()
            elif action >= 0:
                self._last_allocation = action
                size, category = storages[action][:2]
                addresses[action] = allocator.malloc(size)
                live[category] += size
                if allocator.requested_bytes > self._peak_bytes:
                    self._peak_bytes, self._peak_phase = allocator.requested_bytes, self._phase
                    self._bytes_at_peak = live.copy()
            else:
                allocator.free(addresses.pop(~action))
                live[storages[~action].category] -= storages[~action].bytes
        self._end_phase()

    def _begin_phase(self, phase: Phase) -> None:
        self._end_phase()
        self._phase = phase
        if phase is Phase.FORWARD:
            self._resident_bytes = self._allocator.allocated_bytes - self._live[Category.BATCH_DATA]

    def _end_phase(self) -> None:
        allocator, earlier = self._allocator, self._peaks.get(self._phase)
        self._step_peak_reserved = max(self._step_peak_reserved, allocator.peak_reserved_bytes)
        self._peaks[self._phase] = PhasePeak(
            phase=self._phase,
            allocated_bytes=max(allocator.peak_allocated_bytes, earlier.allocated_bytes if earlier else 0),
            reserved_bytes=max(allocator.peak_reserved_bytes, earlier.reserved_bytes if earlier else 0),
        )
        allocator.reset_peaks()

    def _result(self, failure: OutOfMemory | None) -> ReplayResult:
        return ReplayResult(
            peaks=tuple(self._peaks[phase] for phase in Phase if phase in self._peaks),
            steps=self._steps,
            retries=self._allocator.retries,
            resident_bytes=self._resident_bytes,
            bytes_at_peak=self._bytes_at_peak,
            peak_phase=self._peak_phase,
            # Not the reserved bytes at the end of the step: the cache may have been released in the middle of it.
            reserved_bytes=self._step_peak_reserved,
            failure=failure,
            failed_phase=self._phase if failure else None,
            failed_storage=(
                self._trace.storages[self._last_allocation] if failure and self._last_allocation is not None else None
            ),
        )
