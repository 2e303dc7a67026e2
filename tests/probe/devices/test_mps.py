"""The monitor for Apple's GPU, with its tensors on the CPU and a fake of `torch.mps` beneath it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vram_cli.errors import MachineError
from vram_cli.probe.devices.mps import MpsMonitor
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.worker.oom_errors import describe
from vram_cli.records import Category, Outcome, Phase
from vram_cli.units import GIB, MIB

TOTAL = 8 * GIB
CACHED = 16 * MIB


class FakeMetal:
    """Replaces `torch.mps`: its memory is that of the tracked tensors and 16 MiB more."""

    def __init__(self) -> None:
        self.monitor: MpsMonitor | None = None
        self.fractions: list[float] = []

    def driver_allocated_memory(self) -> int:
        return CACHED + (self.monitor.tracker.live_bytes if self.monitor else 0)

    def recommended_max_memory(self) -> int:
        return TOTAL

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def synchronize(self) -> None: ...

    def empty_cache(self) -> None: ...


def monitor(memory_limit: int | None = None, metal: Any = None) -> tuple[MpsMonitor, FakeMetal]:
    metal = metal or FakeMetal()
    metal.monitor = mps = MpsMonitor(torch.device("cpu"), memory_limit, metal)
    return mps, metal


def test_limit_is_a_fraction_of_the_recommended_memory() -> None:
    mps, metal = monitor(2 * GIB)
    mps.start_trial()
    mps.remove_limit()
    assert metal.fractions == [0.25, 1.7]
    device = mps.describe()
    assert (device.capacity_bytes, device.memory_limit_bytes, device.has_peak_counters) == (2 * GIB, 2 * GIB, False)
    assert device.limit_enforced_by == "the allocator's memory fraction"


def test_capacity_without_a_limit() -> None:
    mps, _ = monitor()
    assert mps.describe().capacity_bytes == TOTAL


def test_peaks_of_tensors_and_driver() -> None:
    mps, _ = monitor()
    mps.start_trial()
    with mps.tracker:
        mps.start_phase(Phase.FORWARD)
        small = torch.ones(MIB)
        large = torch.ones(2 * MIB)
        del large
        mps.start_phase(Phase.BACKWARD)
        mps.end_phase()
        mps.tracker.mark_step()
    forward, backward = mps.peaks
    assert (forward.allocated_bytes, backward.allocated_bytes) == (12 * MIB, 4 * MIB)
    assert (forward.reserved_bytes, backward.reserved_bytes) == (12 * MIB + CACHED, 4 * MIB + CACHED)
    breakdown = mps.breakdown(1, mps.step_peak)
    assert breakdown.bytes_of(Category.ALLOCATOR_SLACK) == CACHED
    assert small.numel() == MIB


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        (
            "MPS allocated: 17.00 GB, other allocations: 1 MB, max allowed: 18 GB). Tried to allocate 192.00 MB",
            192 * MIB,
        ),
        ("MPS allocated: 9.00 GiB, other allocations: 1 KiB, max allowed: 9 GiB). Tried to allocate 2.00 GiB", 2 * GIB),
    ],
)
def test_out_of_memory_error(text: str, requested: int) -> None:
    failure = describe(RuntimeError(f"MPS backend out of memory ({text} on private pool."), "mps")
    assert failure.outcome is Outcome.OUT_OF_MEMORY
    assert failure.requested_bytes == requested
    assert failure.held_bytes is not None
    assert failure.held_bytes > 8 * GIB


def test_missing_function_and_too_large_limit_are_refused() -> None:
    with pytest.raises(MachineError, match=r"has no torch\.mps\.recommended_max_memory"):
        monitor(metal=SimpleNamespace(driver_allocated_memory=None, set_per_process_memory_fraction=None))
    with pytest.raises(MachineError, match="more than Metal recommends"):
        monitor(9 * GIB)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an mps device")
def test_missing_mps_device_suggests_the_cpu() -> None:
    with pytest.raises(MachineError, match="finds no mps device") as caught:
        open_monitor("mps", None)
    assert "--device cpu" in caught.value.hint
