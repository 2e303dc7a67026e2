"""What a device must offer for its memory to be measured: counters, a limit, and a breakdown that adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import NamedTuple

import torch

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.records import Breakdown, BreakdownRow, Category, Device, Phase, PhasePeak


class PeakStats(NamedTuple):
    """Highest use since the last reset, in bytes."""

    requested: int
    """What tensors and workspaces asked for."""
    allocated: int
    """What the allocator handed out for it, rounded up."""
    reserved: int
    """What it holds of the device."""


class MemoryMonitor(ABC):
    """Counts memory phase by phase on one device. One trial at a time: `begin`, phases, `lift_limit`, `end`."""

    needs_ledger: bool
    """Whether `allocated` comes from the ledger, which then has to watch every step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ledger = StorageTracker(device)
        self.retries = 0
        self._phase: Phase | None = None
        self._trial_peaks: dict[Phase, PhasePeak] = {}
        self._step_peak = PeakStats(0, 0, 0)

    def begin(self) -> None:
        """Start a trial from a clean state, with the limit in force."""
        self.ledger = self.new_ledger()
        self._phase, self._trial_peaks = None, {}
        self.begin_step()
        self.apply_limit()
        self.reset()

    def begin_step(self) -> None:
        """Forget the highest use of the steps before."""
        self._step_peak = PeakStats(0, 0, 0)
        self.ledger.reset_peak()

    def enter(self, phase: Phase) -> None:
        """Begin a phase, which ends the one before."""
        self.leave()
        self._phase = phase
        self.ledger.enter_phase(phase)

    def leave(self, *, failed: bool = False) -> None:
        """End the current phase and keep its peak; a failed device is not waited for, it might raise once more."""
        if self._phase is None:
            return
        if not failed:
            self.synchronize()
        now = self.read()
        self.reset()
        self._step_peak = PeakStats(*map(max, self._step_peak, now))
        known = self._trial_peaks.get(self._phase)
        self._trial_peaks[self._phase] = PhasePeak(
            phase=self._phase,
            allocated_bytes=max(now.allocated, known.allocated_bytes if known else 0),
            reserved_bytes=max(now.reserved, known.reserved_bytes if known else 0),
        )
        self._phase = None

    @property
    def phase(self) -> Phase | None:
        """The phase that is running."""
        return self._phase

    @property
    def peaks(self) -> tuple[PhasePeak, ...]:
        """The peaks of the phases that ran in this trial."""
        return tuple(self._trial_peaks.values())

    @property
    def step_peak(self) -> PeakStats:
        """The highest use of the last step."""
        return self._step_peak

    def breakdown(self, batch_size: int, peak: PeakStats) -> Breakdown:
        """Account for the whole device at a step's highest use, with what the ledger saw of that or a like step.

        What the counters show above the ledger is memory that kernels took for themselves: workspaces. Below it is a
        temporary that only a watched step makes.
        """
        capacity, outside = self.capacity()
        totals: Counter[Category] = self.ledger.bytes_at_peak()
        unseen = max(peak.requested - self.ledger.peak_bytes, -totals[Category.TEMPORARIES])
        totals[Category.TEMPORARIES] += unseen
        # The CPU's counter has the main thread's stack in it, which its limit has not and which may grow meanwhile.
        reserved = min(peak.reserved, capacity - outside)
        totals[Category.ALLOCATOR_SLACK] = reserved - self.ledger.peak_bytes - unseen
        totals[Category.CONTEXT] = outside
        totals[Category.FREE] = capacity - outside - reserved
        return Breakdown(
            batch_size=batch_size,
            rows=tuple(BreakdownRow(category=category, bytes=totals[category]) for category in Category),
            total_bytes=capacity,
            peak_phase=self.ledger.peak_phase,
        )

    def settle(self) -> None:  # noqa: B027 - nothing, on most devices
        """The first step is over: forget what it alone took."""

    def new_ledger(self) -> StorageTracker:
        """Return an empty ledger for a trial."""
        return StorageTracker(self.device)

    def synchronize(self) -> None:  # noqa: B027 - nothing to wait for on a CPU
        """Wait for the device, so that an error belongs to the phase that caused it."""

    def versions(self) -> dict[str, str]:
        """Return versions that only this kind of device has, such as its driver's."""
        return {}

    def overran(self) -> bool:
        """Whether the trial took more than its budget although the limit was in force; then it has to be run again."""
        return False

    @abstractmethod
    def describe(self) -> Device:
        """Return the device with its capacity, or the budget in its place."""

    @abstractmethod
    def capacity(self) -> tuple[int, int]:
        """Return the bytes of the device (or budget) and how many of them lie outside PyTorch's allocator."""

    @abstractmethod
    def apply_limit(self) -> None:
        """Put the budget in force."""

    @abstractmethod
    def lift_limit(self) -> None:
        """Let the process allocate freely again, so that an error can be told."""

    @abstractmethod
    def read(self) -> PeakStats:
        """Return the highest use since `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Start to count the highest use anew."""

    @abstractmethod
    def allocated_now(self) -> int:
        """Return the bytes handed out to tensors at this moment."""

    @abstractmethod
    def end(self) -> None:
        """Give back what the trial's process caches."""
