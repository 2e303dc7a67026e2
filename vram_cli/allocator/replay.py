"""Plays a tape in the allocator model under a card's capacity: the peaks of each phase, or where memory ran out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vram_cli.allocator.allocation_trace import Action, AllocationTrace, Mark, Storage
from vram_cli.allocator.caching_allocator import CachingAllocator, OutOfMemory
from vram_cli.allocator.settings import DEFAULT_SETTINGS, AllocatorSettings
from vram_cli.records import Category, Phase, PhasePeak

MOST_STEPS = 10
"""Steps after which a reserve that still grows is taken as it is."""


@dataclass(kw_only=True)
class ReplayResult:
    """What a replay found."""

    peaks: tuple[PhasePeak, ...]
    steps: int
    """Steps that ran to the end."""
    retries: int
    resident_bytes: int
    """Allocated as a forward pass begins, without the batch."""
    at_peak: Counter[Category] = field(default_factory=Counter)
    """Bytes asked for by each category at the highest moment of the last step; `ALLOCATOR_SLACK` beside them."""
    peak_phase: Phase = Phase.BUILD
    reserved_bytes: int = 0
    """The most reserved in the last step."""
    failure: OutOfMemory | None = None
    failed_phase: Phase | None = None
    failed_storage: Storage | None = None


def play(
    tape: AllocationTrace,
    capacity_bytes: int | None = None,
    settings: AllocatorSettings = DEFAULT_SETTINGS,
    *,
    steps: int = 3,
) -> ReplayResult:
    """Play setup and at least so many steps, the last one again and again until the reserve no longer grows."""
    return _Replay(tape, capacity_bytes, settings).run(steps)


class _Replay:
    def __init__(self, tape: AllocationTrace, capacity_bytes: int | None, settings: AllocatorSettings) -> None:
        self._tape = tape
        self._allocator = CachingAllocator(capacity_bytes, settings)
        self._addresses: dict[int, int] = {}
        self._phase = Phase.BUILD
        self._peaks: dict[Phase, PhasePeak] = {}
        self._resident = self._steps = self._most_reserved = 0
        self._live: Counter[Category] = Counter()
        self._highest, self._at_peak, self._peak_phase = -1, Counter[Category](), Phase.BUILD

    def run(self, steps: int) -> ReplayResult:
        try:
            self._play(self._tape.setup)
            reserved = -1
            while self._steps < steps or (self._step_reserved > reserved and self._steps < MOST_STEPS):
                reserved = self._allocator.reserved_bytes
                self._step()
                self._step_reserved = self._allocator.reserved_bytes
                if not self._tape.repeats and self._steps == len(self._tape.steps):
                    break
        except OutOfMemory as failure:
            return self._played(failure)
        return self._played(None)

    _step_reserved = 0
    _failing: int | None = None

    def _step(self) -> None:
        tape, number = self._tape, min(self._steps, len(self._tape.steps) - 1)
        if self._steps >= len(tape.steps):
            for old, new in tape.carried.items():
                self._addresses[old] = self._addresses.pop(new)
        self._highest, self._most_reserved = -1, 0
        self._play(tape.steps[number])
        self._steps += 1

    def _play(self, actions: tuple[Action, ...]) -> None:
        allocator, storages, addresses, live = self._allocator, self._tape.storages, self._addresses, self._live
        for action in actions:
            if isinstance(action, Phase):
                self._enter(action)
            elif isinstance(action, Mark):
                allocator.release_cached()
            elif action >= 0:
                self._failing = action
                size, category = storages[action][:2]
                addresses[action] = allocator.malloc(size)
                live[category] += size
                if allocator.requested_bytes > self._highest:
                    self._highest, self._at_peak, self._peak_phase = allocator.requested_bytes, live.copy(), self._phase
            else:
                allocator.free(addresses.pop(~action))
                live[storages[~action].category] -= storages[~action].bytes
        self._leave()

    def _enter(self, phase: Phase) -> None:
        self._leave()
        self._phase = phase
        if phase is Phase.FORWARD:
            self._resident = self._allocator.allocated_bytes - self._live[Category.BATCH_DATA]

    def _leave(self) -> None:
        allocator, known = self._allocator, self._peaks.get(self._phase)
        self._most_reserved = max(self._most_reserved, allocator.peak_reserved_bytes)
        self._peaks[self._phase] = PhasePeak(
            phase=self._phase,
            allocated_bytes=max(allocator.peak_allocated_bytes, known.allocated_bytes if known else 0),
            reserved_bytes=max(allocator.peak_reserved_bytes, known.reserved_bytes if known else 0),
        )
        allocator.reset_peaks()

    def _played(self, failure: OutOfMemory | None) -> ReplayResult:
        if failure is not None:
            self._leave()
        return ReplayResult(
            peaks=tuple(self._peaks[phase] for phase in Phase if phase in self._peaks),
            steps=self._steps,
            retries=self._allocator.retries,
            resident_bytes=self._resident,
            at_peak=self._at_peak,
            peak_phase=self._peak_phase,
            # Not what is left at its end: a cache may have been given back in the middle of it.
            reserved_bytes=self._most_reserved,
            failure=failure,
            failed_phase=self._phase if failure else None,
            failed_storage=self._tape.storages[self._failing] if failure and self._failing is not None else None,
        )
