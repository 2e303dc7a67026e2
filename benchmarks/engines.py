"""Run a training in Python, of any step, on either engine: its peaks, or where it runs out of memory."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch

from vram_cli.allocator.replay import replay
from vram_cli.fake_tensors import SimulatedTraining, Simulation
from vram_cli.workload.model_without_memory import ModelWithoutValues, build_without_memory


@dataclass(frozen=True)
class Peak:
    """The largest that the allocator held over all steps, in bytes."""

    allocated: int
    reserved: int
    fits: bool


def on_fake_tensors(simulation: Simulation, n: int, capacity: int, steps: int) -> Peak:
    """Return the peak of `n` samples under a capacity in bytes."""
    result = replay(simulation.trace(n), capacity, steps=steps)
    peaks = result.peaks
    return Peak(
        allocated=max(peak.allocated_bytes for peak in peaks),
        reserved=max(peak.reserved_bytes for peak in peaks),
        fits=result.failure is None,
    )


def on_virtual_gpu(training: SimulatedTraining, n: int, steps: int) -> Peak:
    """Return the peak of `n` samples on the virtual GPU of this process, which has the capacity."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fits = _runs(training, n, steps)
    peak = Peak(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), fits)
    gc.collect()
    return peak


def _runs(training: SimulatedTraining, n: int, steps: int) -> bool:
    try:
        _run(training, n, steps)
    except torch.OutOfMemoryError:
        return False
    return True


def _run(training: SimulatedTraining, n: int, steps: int) -> None:
    device = torch.device("cuda:0")
    model = build_without_memory(training.build_model)
    ModelWithoutValues(model).to(device, training.dtype)
    work = training.workload(model, device)
    batch = training.make_batch(n, device, torch.float32)
    for _ in range(steps):
        work.step(work, batch, lambda _: None)
