"""The peak of each phase of a step, on real CPU tensors and on fake ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.fake_tensors import SimulatedTraining, Simulation
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Phase
from vram_cli.workload import Batch, Workload
from vram_cli.workload.workload import Step

CPU = torch.device("cpu")
OUT_OF_PLACE = "vram_cli.fake_tensors.autograd_engine._can_accumulate_in_place"
"""Patched to False, fake gradients add out of place: PyTorch does so under a tracker, which holds Python references."""

Peaks = dict[Phase, int]


def real(build: Callable[[], tuple[Workload, Batch]]) -> tuple[StorageTracker, Peaks]:
    """Run two real steps; return the tracker, and the peak of each phase of the second step."""
    tracker, peaks = StorageTracker(CPU), {}
    with tracker:
        work, batch = build()
        for _ in range(2):
            tracker.reset_peak()
            _with_peaks(work.step, lambda: tracker, peaks)(work, batch, tracker.enter_phase)
    return tracker, peaks


def fake(training: SimulatedTraining, n: int) -> tuple[StorageTracker, Peaks]:
    """Simulate the same on the CPU."""
    peaks: Peaks = {}

    def tracker() -> StorageTracker:
        return next(mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, StorageTracker))

    def workload(model: nn.Module, device: torch.device) -> Workload:
        work = training.workload(model, device)
        return replace(work, step=_with_peaks(work.step, tracker, peaks))

    simulated = replace(training, workload=workload)
    return Simulation(simulated, find_gpu("t4"), fused_attention=False, device=CPU).run(n), peaks


def _with_peaks(step: Step, tracker: Callable[[], StorageTracker], peaks: Peaks) -> Step:
    """Return the step such that it writes the peak of each phase to `peaks`."""

    def run(work: Workload, batch: Batch, enter: Callable[[Phase], None]) -> torch.Tensor:
        phase = Phase.BATCH

        def enter_and_note(new: Phase) -> None:
            nonlocal phase
            peaks[phase] = max(tracker().phase_peak_bytes, peaks.get(phase, 0))
            phase = new
            enter(new)

        peaks.clear()
        loss = step(work, batch, enter_and_note)
        enter_and_note(Phase.BATCH)
        return loss

    return run
