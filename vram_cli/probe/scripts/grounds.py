"""The device that a script runs on, from inside its process: opened when the script first uses it."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vram_cli.config import Config
from vram_cli.errors import REAL_TRIALS, UnsupportedError
from vram_cli.hardware.accuracy import accuracy_of
from vram_cli.hardware.calibration_store import load_calibration
from vram_cli.hardware.gpus import DEFAULT_GPU, find_gpu
from vram_cli.probe.devices.cpu import CpuMonitor
from vram_cli.probe.devices.cuda import CudaMonitor
from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.devices.virtual import VirtualGpuMonitor, assume_all_found, assume_distinct_rows
from vram_cli.probe.environment import communication_bytes
from vram_cli.probe.scripts.ranks import ranks_of
from vram_cli.records import HostRead, Measurement, Outcome
from vram_cli.virtual_gpu.attached import VirtualGpu
from vram_cli.virtual_gpu.refusals import refusal, size_from_values, too_new, unknown_sizes
from vram_cli.workload.optimizers import refuse_unpredictable


class CpuGround:
    """The CPU, under a memory limit from the start of the script."""

    def __init__(self, memory_limit: int | None) -> None:
        self._limit = memory_limit

    def when_used(self, start: Callable[[MemoryMonitor], None]) -> None:
        """Open the device and start the trial on it."""
        start(CpuMonitor(self._limit))

    def checked(self, measurement: Measurement) -> Measurement:
        """Return the measurement as it is."""
        return measurement


class CudaGround:
    """A GPU, opened as PyTorch initializes CUDA: not before, because a script may still choose its GPUs."""

    def __init__(self, memory_limit: int | None) -> None:
        self._limit = memory_limit

    def when_used(self, start: Callable[[MemoryMonitor], None]) -> None:
        """Open the device as the script first uses it, and start the trial on it then."""
        torch.cuda._lazy_call(lambda: start(self._monitor()))

    def checked(self, measurement: Measurement) -> Measurement:
        """Return the measurement as it is."""
        return measurement

    def _monitor(self) -> MemoryMonitor:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))  # each has a GPU, unless it sees only its own
        index = local_rank if local_rank < torch.cuda.device_count() else 0
        return _ScriptCudaMonitor(torch.device("cuda", index), self._limit)


class VirtualGround(CudaGround):
    """The virtual GPU, whose library the process has."""

    def __init__(self, config: Config, *, calibrated: bool = True) -> None:
        super().__init__(config.device.memory_limit)
        gpu = find_gpu(config.device.gpu or DEFAULT_GPU)
        self._name, self._library = gpu.product, VirtualGpu()
        self._accuracy = accuracy_of(gpu.vendor, "virtual-gpu")
        calibration = load_calibration(gpu) if calibrated else None
        if calibration is not None and config.device.overhead is None:
            self._accuracy = f"memory and context calibrated on {calibration.measured_on}; {self._accuracy}"
        assume_distinct_rows(self._library.assumed_size)
        self._found = assume_all_found(self._library.assumed_size)
        register_optimizer_step_pre_hook(refuse_unpredictable)
        self._communication_bytes = communication_bytes(config)
        ranks, local_ranks = ranks_of(config.script.words(1)) if config.script else (1, 1)
        if ranks > 1:
            self._accuracy = f"{accuracy_of(gpu.vendor, 'ranks')}; one GPU: {self._accuracy}"
            from vram_cli.probe.scripts.absent_ranks import stand_for_others  # few builds of PyTorch lack this part

            stand_for_others(ranks, local_ranks)

    def _monitor(self) -> MemoryMonitor:
        return VirtualGpuMonitor(self._name, self._limit, self._accuracy, defaultdict(), self._communication_bytes)

    def checked(self, measurement: Measurement) -> Measurement:
        """Return the measurement with the values that the script read.

        Raises:
            UnsupportedError: the script calls a function of CUDA that the virtual GPU does not answer, or the size of a
                tensor depends on values.
        """
        if names := self._library.refusals():
            raise refusal(names)
        is_memory = measurement.fits or "CUDA out of memory" in measurement.message
        if not is_memory and (names := self._library.unknown_imports()):
            raise too_new(names)
        reads = self._library.reads()
        if lines := unknown_sizes(reads):
            raise size_from_values(lines)
        if measurement.outcome is Outcome.ERROR and (lines := _assumed_at(reads, measurement)):
            raise UnsupportedError(
                f"{', '.join(lines)}: the script reads values here that only a GPU computes, and fails with those that "
                f"were assumed: {measurement.message}",
                REAL_TRIALS,
            )
        return replace(measurement, step_seconds=None, reads=reads)


def _assumed_at(reads: Iterable[HostRead], failed: Measurement) -> list[str]:
    """Return the lines of reads that may be the reason for an exception: assumed sizes, and the lines that raised."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', failed.traceback)
    places = {f"{Path(file).name}:{line}" for file, line in frames}
    divides = failed.message.startswith("ZeroDivisionError")
    lines = (read.line for read in reads if divides or read.value == "most" or read.line.rpartition("/")[2] in places)
    return list(dict.fromkeys(filter(None, lines)))


class _ScriptCudaMonitor(CudaMonitor):
    """A GPU of which each trial has a process of its own anyway."""

    confirm_in_new_process = False


def open_ground(config: Config, *, is_virtual: bool) -> CpuGround | CudaGround:
    """Return the device of a script's process.

    Args:
        config: names the device and its memory limit.
        is_virtual: whether the process has the library of the virtual GPU.

    Raises:
        VramError: the calibration of the GPU cannot be read.
    """
    if is_virtual:
        return VirtualGround(config)
    limit = config.device.memory_limit
    return CpuGround(limit) if config.device.name == "cpu" else CudaGround(limit)
