"""The interface of a device: memory counters, a limit, and a breakdown that adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.records import Breakdown, Category, Device, Phase, PhasePeak
from vram_cli.records.breakdown import rows_of
from vram_cli.workload import moved


class PeakStats(NamedTuple):
    """Peak memory since the last reset, in bytes."""

    requested: int
    """Bytes that tensors and workspaces requested."""
    allocated: int
    """Bytes that the allocator handed out for them, rounded up."""
    reserved: int
    """Bytes that the allocator reserved on the device."""


class MemoryMonitor(ABC):
    """Measures peak memory per phase on one device.

    One trial at a time: `start_trial`, then the phases, `remove_limit`, `empty_cache`. Class attributes describe the
    capabilities of a device, so that no other code checks its type.
    """

    has_peak_counters: ClassVar[bool]
    """Whether the device counts peaks itself. If not, the storage tracker watches every step."""
    confirm_in_new_process: ClassVar[bool] = False
    """Whether earlier trials shape the allocator's cache, so that an answer is confirmed in a new process."""
    limits_timed_steps: ClassVar[bool] = True
    """Whether the memory limit can be in force while steps are timed."""

    sharded_from: ClassVar[torch.device] = torch.device("cpu")
    """The device on which a model is whole before it is sharded over ranks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tracker = StorageTracker(device)
        self.allocator_retries = 0
        self.communication_bytes = 0
        """Memory outside the allocator that libraries for communication hold, as far as known."""
        self._phase: Phase | None = None
        self._peaks: dict[Phase, PhasePeak] = {}
        self._step_peak = PeakStats(0, 0, 0)

    def start_trial(self) -> None:
        """Start a trial from a clean state, with the limit in force."""
        self.tracker = self.new_tracker()
        self._phase, self._peaks = None, {}
        self.start_step()
        self.set_limit()
        self.reset_peak()

    def start_step(self) -> None:
        """Discard the peak of earlier steps."""
        self._step_peak = PeakStats(0, 0, 0)
        self.tracker.reset_peak()

    def start_phase(self, phase: Phase) -> None:
        """Start a phase, which ends the one before."""
        self.end_phase()
        self._phase = phase
        self.tracker.enter_phase(phase)

    def end_phase(self, *, failed: bool = False) -> None:
        """End the current phase and keep its peak. A failed device is not synchronized: it might raise again."""
        if self._phase is None:
            return
        if not failed:
            self.synchronize()
        stats = self.peak_stats()
        self.reset_peak()
        self._step_peak = PeakStats(*map(max, self._step_peak, stats))
        earlier = self._peaks.get(self._phase)
        self._peaks[self._phase] = PhasePeak(
            phase=self._phase,
            allocated_bytes=max(stats.allocated, earlier.allocated_bytes if earlier else 0),
            reserved_bytes=max(stats.reserved, earlier.reserved_bytes if earlier else 0),
        )
        self._phase = None

    @property
    def phase(self) -> Phase | None:
        """The current phase."""
        return self._phase

    @property
    def peaks(self) -> tuple[PhasePeak, ...]:
        """The peaks of all phases of this trial."""
        return tuple(self._peaks.values())

    @property
    def step_peak(self) -> PeakStats:
        """The peak of the last step."""
        return self._step_peak

    def breakdown(self, batch_size: int, peak: PeakStats) -> Breakdown:
        """Account for the whole device at a step's peak, from the storages of that or an equal tracked step.

        If the counters show more than the tracker, kernels allocated the difference as workspaces. If they show less,
        the difference is a temporary that only a tracked step creates.
        """
        capacity, outside = self.capacity()
        totals: Counter[Category] = self.tracker.bytes_at_peak()
        unseen = max(peak.requested - self.tracker.peak_bytes, -totals[Category.TEMPORARIES])
        totals[Category.WORKSPACES if unseen > 0 else Category.TEMPORARIES] += unseen
        # The CPU's counter includes the main thread's stack, which its limit does not, and which may have grown.
        reserved = min(peak.reserved, capacity - outside)
        totals[Category.ALLOCATOR_SLACK] = reserved - self.tracker.peak_bytes - unseen
        totals[Category.COMMUNICATION] = min(self.communication_bytes, outside)
        totals[Category.CONTEXT] = outside - totals[Category.COMMUNICATION]
        totals[Category.FREE] = capacity - outside - reserved
        return Breakdown(
            batch_size=batch_size,
            rows=rows_of(totals),
            total_bytes=capacity,
            peak_phase=self.tracker.peak_phase,
        )

    def describe(self) -> Device:
        """Return the device, with its capacity or the memory limit in place of it."""
        capacity, outside = self.capacity()
        return Device(
            kind="real",
            name=self.name(),
            type=str(self.device),
            capacity_bytes=capacity,
            memory_limit_bytes=self.memory_limit,
            limit_enforced_by=self.limit_enforced_by(),
            outside_bytes=outside,
            has_peak_counters=self.has_peak_counters,
            confirm_in_new_process=self.confirm_in_new_process,
            other_processes=self.other_processes(),
        )

    @property
    def memory_limit(self) -> int | None:
        """The memory limit in the config, in bytes; None for the whole device."""
        return None

    @property
    def guard_bytes(self) -> int | None:
        """Resident memory above which the parent ends the process, if nothing else enforces the limit; else None."""
        return None

    def start_in_fork(self) -> None:  # noqa: B027 - an allocator that counts has nothing before its first tensor
        """Leave free memory that this process has from the one that it is a fork of out of account."""

    def count_as_used(self, size: int) -> None:  # noqa: B027 - an allocator that counts knows them
        """Count bytes that were allocated before the trial as part of it: they leave it less of the limit."""

    def discard_first_step_peak(self) -> None:  # noqa: B027 - most devices keep it
        """Discard memory that only the first step takes."""

    def new_tracker(self) -> StorageTracker:
        """Return an empty tracker for a trial."""
        return StorageTracker(self.device, after_steps=self.has_peak_counters)

    def place(
        self,
        part: str,  # noqa: ARG002 - for devices that keep what was built
        build: Callable[[], nn.Module],
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> nn.Module:
        """Build "model" or "criterion" and move it to the device."""
        return moved(build(), device, dtype)

    def release(self) -> None:  # noqa: B027 - most devices keep nothing
        """Let what `place` put on the device go, after a trial."""

    def wait_for_collectives(self) -> None:  # noqa: B027 - a step on a real device takes longer than they do
        """Wait until the collectives of earlier steps have let go of their tensors."""

    def free_workspaces(self) -> None:  # noqa: B027 - most devices keep none
        """Free memory that libraries keep between steps, after a trial: the next one allocates it as a script does."""

    def synchronize(self) -> None:  # noqa: B027 - a CPU has nothing to wait for
        """Wait for the device, so that an error is raised in the phase that caused it."""

    def other_processes(self) -> tuple[str, ...]:
        """Return other processes that hold memory of the device, one line each."""
        return ()

    def versions(self) -> dict[str, str]:
        """Return versions that only this kind of device has, such as the driver's."""
        return {}

    def exceeded_limit(self) -> bool:
        """Return whether the trial exceeded the limit although that was in force, so that it must be repeated."""
        return False

    @abstractmethod
    def name(self) -> str:
        """Return the device's name."""

    @abstractmethod
    def limit_enforced_by(self) -> str:
        """Return the mechanism that makes allocations above the limit fail."""

    @abstractmethod
    def capacity(self) -> tuple[int, int]:
        """Return the bytes of the device (or the memory limit), and how many of them lie outside the allocator."""

    @abstractmethod
    def set_limit(self) -> None:
        """Put the memory limit in force."""

    @abstractmethod
    def remove_limit(self) -> None:
        """Let the process allocate freely again, so that an error can be reported."""

    @abstractmethod
    def peak_stats(self) -> PeakStats:
        """Return the peak since `reset_peak`."""

    @abstractmethod
    def reset_peak(self) -> None:
        """Reset the peak to the current use."""

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Return the bytes that tensors hold now."""

    @abstractmethod
    def empty_cache(self) -> None:
        """Return cached memory to the device."""
