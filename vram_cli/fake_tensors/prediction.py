"""The probe that predicts: it answers for a GPU that this machine does not have, with the records of real probes."""

from __future__ import annotations

import time
import traceback
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from torch import nn

from vram_cli.accounting.attribution import with_modules_and_timeline
from vram_cli.allocator.allocation_trace import AllocationTrace, LinearTrace, linear_trace
from vram_cli.allocator.growth import growth_of
from vram_cli.allocator.replay import ReplayResult, replay
from vram_cli.allocator.snapshot import snapshot_of, write_snapshot
from vram_cli.config import Config
from vram_cli.errors import VramError, out_of_host_memory
from vram_cli.fake_tensors.errors import is_out_of_host_memory
from vram_cli.fake_tensors.kernel_limits import KernelLimitError
from vram_cli.fake_tensors.simulated_training import SimulatedTraining, training_from_config
from vram_cli.fake_tensors.simulation import Simulation, running_version
from vram_cli.hardware.accuracy import accuracy_of
from vram_cli.hardware.calibration import NO_ALLOWANCES, Calibration
from vram_cli.hardware.gpus import Gpu, check_overhead
from vram_cli.records import Breakdown, Category, DataInfo, Device, Measurement, Outcome
from vram_cli.records.breakdown import rows_of
from vram_cli.units import format_bytes
from vram_cli.workload import convolutions_use_tf32, data_dtype_name, error_summary

_MAX_BATCH_SIZE = 2**31
"""No line is followed beyond."""


class FakeTensorProbe:
    """Predicts batch sizes with fake tensors and a model of the allocator; a context manager like the real probe.

    Every size is simulated. If two simulations differ only in bytes, each storage is `a + b * n`, and measurements tell
    the largest size that fits on that line, for a search to try. A size that contradicts the line discards it.

    Args:
        config: the training.
        gpu: the GPU.
        expandable_segments: whether the allocator uses expandable segments.
        calibration: the GPU's calibration: memory and context that replace the catalogue's, and allowances for
            workspaces.
        overhead_bytes: GPU memory outside PyTorch's allocator; None takes the GPU's context.
        capacity_bytes: total memory to assume in place of the GPU's own.
        training: a training that replaces the model, data and step of the config.

    Raises:
        ConfigError: the overhead leaves no memory.
    """

    def __init__(
        self,
        config: Config,
        gpu: Gpu,
        *,
        expandable_segments: bool = False,
        calibration: Calibration | None = None,
        overhead_bytes: int | None = None,
        capacity_bytes: int | None = None,
        training: SimulatedTraining | None = None,
    ) -> None:
        config_training, data = training_from_config(config)
        allowances = NO_ALLOWANCES
        if calibration is not None:
            gpu, allowances = calibration.apply_to(gpu), calibration.allowances_for(running_version())
        self._simulation = Simulation(
            training or config_training,
            gpu,
            tf32=convolutions_use_tf32(),
            cudnn_benchmark=config.device.cudnn_benchmark,
            allowances=allowances,
            steps=config.search.steps,
        )
        self.data: DataInfo = data.for_model(data_dtype_name(config, self._simulation.model))
        self._expandable_segments, self._steps = expandable_segments, config.search.steps
        self._total = capacity_bytes or gpu.memory_bytes
        self.outside_bytes = gpu.context_bytes if overhead_bytes is None else overhead_bytes
        check_overhead(self.outside_bytes, self._total)
        self.device = Device(
            kind="simulated",
            name=gpu.product,
            type="cuda:0",
            capacity_bytes=self._total,
            memory_limit_bytes=capacity_bytes,
            engine="fake-tensors",
            limit_enforced_by="a model of the CUDA caching allocator",
            outside_bytes=self.outside_bytes,
            accuracy=_accuracy(gpu, calibration, has_overhead=overhead_bytes is not None),
        )
        self._traces: dict[int, AllocationTrace] = {}
        self._line: LinearTrace | None = None
        self._is_linear = True
        self._largest_on_line: int | None = None

    def __enter__(self) -> FakeTensorProbe:
        """Start; there is nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; there is nothing to close."""

    @property
    def model(self) -> nn.Module:
        """The model that is simulated."""
        return self._simulation.model

    @property
    def capacity_bytes(self) -> int:
        """Bytes that PyTorch's allocator may reserve."""
        return self._total - self.outside_bytes

    def measure(self, batch_size: int, *, explain: bool = False, detail: bool = False) -> Measurement:
        """Predict a batch size; `explain` adds a breakdown, and `detail` modules and a timeline to it."""
        start = time.perf_counter()
        try:
            trace = self._trace(batch_size)
        except VramError:  # unsupported, or user code that cannot be used
            raise
        except Exception as error:  # any exception of the user's model is an outcome
            if is_out_of_host_memory(error):
                raise out_of_host_memory(batch_size, error_summary(error)) from error
            return Measurement(
                batch_size=batch_size,
                outcome=Outcome.KERNEL_LIMIT if isinstance(error, KernelLimitError) else Outcome.ERROR,
                seconds=time.perf_counter() - start,
                message=str(error) if isinstance(error, KernelLimitError) else error_summary(error),
                traceback="".join(traceback.format_exception(error)),
            )
        measurement = self._measure(batch_size, trace, explain=explain or detail)
        if measurement.breakdown is not None and detail:
            measurement = replace(measurement, breakdown=with_modules_and_timeline(measurement.breakdown, trace))
        return replace(measurement, seconds=time.perf_counter() - start)

    def save_snapshot(self, batch_size: int, path: Path) -> None:
        """Write a batch size as a snapshot for PyTorch's memory_viz, even if it runs out of memory.

        Raises:
            ConfigError: the file cannot be written.
        """
        trace = self._trace(batch_size)
        snapshot = snapshot_of(trace, self.capacity_bytes, expandable_segments=self._expandable_segments)
        write_snapshot(snapshot, path)

    def _trace(self, n: int) -> AllocationTrace:
        if n not in self._traces:
            trace = self._traces[n] = self._simulation.trace(n)
            if self._line is not None and self._line.at(n) != trace:
                self._line, self._largest_on_line, self._is_linear = None, None, False
            if self._line is None and self._is_linear and (line := self._find_line(n)):
                self._line, self._largest_on_line = line, self._largest_that_fits(line)
        return self._traces[n]

    def _find_line(self, n: int) -> LinearTrace | None:
        """Return a line through this size and an earlier one, if the two traces are on one."""
        for m in self._traces:
            small, large = sorted((n, m))
            line = linear_trace(self._traces[small], small, self._traces[large], large) if n != m else None
            if line is not None:
                return line
        return None

    def _largest_that_fits(self, line: LinearTrace) -> int | None:
        """Return the largest size that fits on a line; None if all do."""
        sizes = range(1, _MAX_BATCH_SIZE)
        fits = bisect_left(sizes, True, key=lambda n: self._replay(line.at(n)).failure is not None)
        return fits if fits < len(sizes) else None

    def _replay(self, trace: AllocationTrace) -> ReplayResult:
        return replay(trace, self.capacity_bytes, expandable_segments=self._expandable_segments, steps=self._steps)

    def _measure(self, n: int, trace: AllocationTrace, *, explain: bool) -> Measurement:
        start = time.perf_counter()
        result = self._replay(trace)
        failure = result.failure
        return Measurement(
            batch_size=n,
            outcome=Outcome.FITS if failure is None else Outcome.OUT_OF_MEMORY,
            phase=result.failed_phase,
            peaks=result.peaks,
            resident_bytes=result.resident_bytes,
            allocator_retries=result.retries,
            steps=result.steps,
            seconds=time.perf_counter() - start,
            message=_failure_message(result),
            requested_bytes=failure.requested_bytes if failure else None,
            held_bytes=failure.allocated_bytes if failure else None,
            flops=self._simulation.flops.get(n),
            breakdown=self._breakdown(n, result) if explain and failure is None else None,
            notes=self._simulation.notes,
            growth=None if trace.repeats else growth_of(trace),
            expected_largest=self._largest_on_line,
        )

    def _breakdown(self, n: int, result: ReplayResult) -> Breakdown:
        totals = Counter(result.bytes_at_peak)
        totals[Category.ALLOCATOR_SLACK] = result.reserved_bytes - sum(result.bytes_at_peak.values())
        totals[Category.CONTEXT] = self.outside_bytes
        totals[Category.FREE] = self.capacity_bytes - result.reserved_bytes
        return Breakdown(
            batch_size=n,
            rows=rows_of(totals),
            total_bytes=self._total,
            peak_phase=result.peak_phase,
        )


def _accuracy(gpu: Gpu, calibration: Calibration | None, *, has_overhead: bool) -> str:
    calibrated = calibration.describe(running_version(), has_overhead=has_overhead) if calibration else ""
    return "; apart from that, ".join(filter(None, (calibrated, accuracy_of(gpu.vendor, "fake-tensors"))))


def _failure_message(result: ReplayResult) -> str:
    """Return the operation that failed, such as "fails in layer3.1.conv2 backward (aten.relu), requesting 410 MiB"."""
    if result.failure is None or result.failed_storage is None or result.failed_phase is None:
        return ""
    storage = result.failed_storage
    where = " ".join(filter(None, (storage.module, result.failed_phase.value)))
    operation = f" ({storage.op})" if storage.op else ""
    return f"fails in {where}{operation}, requesting {format_bytes(result.failure.requested_bytes)}"
