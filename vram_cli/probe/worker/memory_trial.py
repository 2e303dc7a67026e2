"""A trial: build the workload, make a batch, run full steps, and report the outcome."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from vram_cli.accounting.attribution import with_modules_and_timeline
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_labels import label_gradients, label_storages
from vram_cli.allocator.allocation_trace import AllocationTrace, trace_from
from vram_cli.allocator.growth import STEPS_TO_TELL, grown, growth_per_step, may_grow
from vram_cli.config import Config
from vram_cli.errors import VramError
from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.worker.oom_errors import Failure, describe
from vram_cli.records import Breakdown, Detail, Growth, Measurement, Outcome, Phase, PhasePeak
from vram_cli.workload import (
    Batch,
    DataSource,
    Workload,
    build_workload,
    channels_last,
    data_dtype,
    data_dtype_name,
    tensors_of,
)

Build = Callable[[], tuple[Workload, Batch]]
"""Builds what is trained, and enters the phases of that."""

_KEPT_BYTES = 1024**2
"""Memory that may outlive a trial without effect: a block of the allocator is larger."""


class MemoryTrial:
    """Runs one batch size on one device, and records phases, peaks and steps.

    Args:
        monitor: measures the device's memory.
        on_phase: called as each phase starts.
        detail: the level of the breakdown of the last step. Modules and a timeline need every module call tracked.
        watches_growth: whether further steps run if memory seems to grow from step to step.

    Attributes:
        data_dtype: the dtype of data that follow the model.
        leaves_tensors: whether tensors of the trial are alive after it, which the user's code must hold.
    """

    def __init__(
        self,
        monitor: MemoryMonitor,
        on_phase: Callable[[Phase], None],
        detail: Detail = Detail.NONE,
        *,
        watches_growth: bool = True,
    ) -> None:
        self._monitor, self._on_phase, self._detail = monitor, on_phase, detail
        self._watches_growth = watches_growth
        self.leaves_tensors = False
        self.data_dtype = "float32"
        self._can_track = True
        self._steps = 0
        self._step_seconds: float | None = None
        self._resident_bytes = 0
        self._breakdown: Breakdown | None = None
        self._peaks: tuple[PhasePeak, ...] = ()
        self._retries: int | None = None
        self._flops: int | None = None
        self._notes: tuple[str, ...] = ()
        self._held: list[int] = []
        """Bytes that tensors hold after each step."""
        self._growth: Growth | None = None
        self._before = 0
        """Bytes that tensors of earlier trials hold."""
        self._poisoned = False

    def run(self, config: Config, data: DataSource, batch_size: int, steps: int) -> tuple[Measurement, bool]:
        """Return the measurement, and whether the process may be poisoned.

        Raises:
            VramError: the config names code that cannot be used, or that returns an invalid value.
        """
        self._can_track = not config.train.compile  # compiled code bypasses the dispatcher
        return self.run_built(lambda: self._build(config, data, batch_size), batch_size, steps)

    def run_built(self, build: Build, batch_size: int, steps: int) -> tuple[Measurement, bool]:
        """Run what a function builds; otherwise as `run`."""
        started, failure, phase = time.perf_counter(), None, None
        self._monitor.start_trial()
        self._before = self._monitor.allocated_bytes()
        try:
            self._run(build, batch_size, steps)
        except VramError:
            self._monitor.remove_limit()
            self._monitor.release()
            raise
        except Exception as error:  # noqa: BLE001 - every exception is an outcome
            self._monitor.remove_limit()
            failure = describe(error, self._monitor.device.type)
            failure = replace(failure, held_bytes=self._held_at_failure(failure))
            phase = self._monitor.phase
            self._monitor.end_phase(failed=True)
        # Outside the except block, the traceback no longer keeps frames and their tensors alive (pytorch#18853).
        self._clean_up(failure)
        poisoned = self._poisoned or bool(failure and failure.poisoned)
        return self._measurement(batch_size, time.perf_counter() - started, phase, failure), poisoned

    def _build(self, config: Config, data: DataSource, batch_size: int) -> tuple[Workload, Batch]:
        self._start_phase(Phase.BUILD)
        monitor = self._monitor
        work = build_workload(config, monitor.device, monitor.place, sharded_from=monitor.sharded_from)
        self.data_dtype = data_dtype_name(config, work.model)
        self._start_phase(Phase.BATCH)
        batch = data.make_batch(batch_size, self._monitor.device, data_dtype(work.model))
        return work, channels_last(batch) if config.train.channels_last else batch

    def _run(self, build: Build, batch_size: int, steps: int) -> None:
        monitor = self._monitor
        tracks_all = not monitor.has_peak_counters
        with monitor.tracker if tracks_all else nullcontext():
            work, batch = build()
            for step in range(steps):
                self._step(work, batch, is_detailed=tracks_all and step == steps - 1)
                if step == 0:
                    monitor.discard_first_step_peak()
            self._notes = work.notes
            self._peaks, self._retries = monitor.peaks, monitor.allocator_retries
            if self._detail is not Detail.NONE and self._can_track:
                self._account(work, batch, batch_size)
            if self._watches_growth and may_grow(self._held):
                self._growth = self._watch_growth(work, batch)

    def _held_at_failure(self, failure: Failure) -> int | None:
        """Return at least how many bytes tensors held as an allocation failed; backward has since freed many."""
        if failure.requested_bytes is None:
            return None
        failed_at = self._monitor.tracker.failed_at_bytes
        return max(failure.held_bytes or 0, self._monitor.allocated_bytes()) if failed_at is None else failed_at

    def _account(self, work: Workload, batch: Batch, batch_size: int) -> None:
        """Create the breakdown of the last step; if that was not tracked, run another step for it.

        While tensors are tracked, PyTorch accumulates gradients out of place, because it never reuses a tensor that
        Python has seen. So the peak is that of the step before. Close to the limit a tracked step may not fit; then the
        measurement has no breakdown.
        """
        monitor, peak = self._monitor, self._monitor.step_peak
        if monitor.has_peak_counters:
            try:
                for _ in range(2 if work.is_replicated else 1):  # the first shows buckets that are older
                    self._step(work, batch, is_detailed=True)
            except Exception as error:
                failure = describe(error, monitor.device.type)
                if failure.outcome is Outcome.ERROR:
                    raise
                self._poisoned = failure.poisoned
                return
        monitor.tracker.mark_step()
        self._flops = monitor.tracker.flops
        self._breakdown = monitor.breakdown(batch_size, peak)
        if self._detail is Detail.MODULES:
            self._breakdown = with_modules_and_timeline(
                self._breakdown, trace_from(monitor.tracker.records, monitor.tracker.markers)
            )

    def _watch_growth(self, work: Workload, batch: Batch) -> Growth | None:
        """Run more steps to see whether memory grows, and two tracked ones to see what stays.

        They do not count as steps of the trial, and may run out of memory.
        """
        monitor, steps, seconds, held = self._monitor, self._steps, self._step_seconds, self._held
        trace, is_cut_short = AllocationTrace((), (), (), {}), False
        try:
            while len(held) < STEPS_TO_TELL:
                self._step(work, batch, is_detailed=False)
            if growth_per_step(held) and self._can_track:
                for _ in range(2):
                    self._step(work, batch, is_detailed=True, names_modules=True)
                monitor.tracker.mark_step()
                trace = trace_from(monitor.tracker.records, monitor.tracker.markers)
        except Exception as error:  # noqa: BLE001 - the steps of the trial have run
            self._poisoned, is_cut_short = describe(error, monitor.device.type).poisoned, True
        self._steps, self._step_seconds = steps, seconds
        if (rate := growth_per_step(held, is_cut_short=is_cut_short)) is None:
            return None
        before = monitor.allocated_bytes()
        gc.collect()
        is_garbage = before - monitor.allocated_bytes() > rate
        return grown(rate, len(held), trace, is_garbage=is_garbage)

    def _step(self, work: Workload, batch: Batch, *, is_detailed: bool, names_modules: bool = False) -> None:
        monitor = self._monitor
        is_forward_seen = False
        if work.is_replicated:  # its first bucket, all gradients at once, lives until others have replaced it
            monitor.wait_for_collectives()
        self._label(work, batch)
        storage_tracking: AbstractContextManager[object] = nullcontext()
        if is_detailed and monitor.has_peak_counters:
            storage_tracking = monitor.tracker
        module_tracking: AbstractContextManager[object] = nullcontext()
        if is_detailed and (names_modules or self._detail is Detail.MODULES):
            modules = monitor.tracker.modules = ModuleTracker(work.module)
            module_tracking = modules.tracking()
        monitor.start_step()
        monitor.tracker.mark_step()
        monitor.tracker.flops = 0

        def start_phase(phase: Phase) -> None:
            nonlocal is_forward_seen
            if phase is Phase.FORWARD and not is_forward_seen:  # gradients exist in later micro-batches
                is_forward_seen = True
                self._resident_bytes = max(monitor.allocated_bytes() - self._batch_bytes(batch), 0)
            if phase is Phase.OPTIMIZER:
                label_gradients(monitor.tracker, work)
            self._start_phase(phase)

        started = time.perf_counter()
        with module_tracking, storage_tracking:
            work.step(work, batch, start_phase)
            monitor.end_phase()
        self._held.append(monitor.allocated_bytes())
        if not is_detailed or not monitor.has_peak_counters:
            seconds = time.perf_counter() - started
            self._step_seconds = min(self._step_seconds or seconds, seconds)
            self._steps += 1
        self._label(work, batch)

    def _label(self, work: Workload, batch: Batch) -> None:
        label_storages(self._monitor.tracker, work, batch)

    def _batch_bytes(self, batch: Batch) -> int:
        device = self._monitor.device.type
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors_of(batch) if tensor.device.type == device)

    def _start_phase(self, phase: Phase) -> None:
        self._monitor.start_phase(phase)
        self._on_phase(phase)

    def _clean_up(self, failure: Failure | None) -> None:
        self._monitor.remove_limit()
        self._monitor.tracker.modules = None  # it knows the model, which may hold tensors
        self._monitor.release()
        gc.collect()
        if failure is None or not failure.poisoned:
            self._monitor.free_workspaces()
        # Tensors that outlive the trial, such as losses in a global list, would count as memory of the next one.
        self.leaves_tensors = self._monitor.allocated_bytes() > self._before + _KEPT_BYTES
        self._poisoned |= self.leaves_tensors
        if failure is None or not failure.poisoned:
            self._monitor.empty_cache()

    def _measurement(
        self, batch_size: int, seconds: float, phase: Phase | None, failure: Failure | None
    ) -> Measurement:
        return Measurement(
            batch_size=batch_size,
            outcome=failure.outcome if failure else Outcome.FITS,
            phase=phase,
            peaks=self._peaks or self._monitor.peaks,
            resident_bytes=self._resident_bytes,
            allocator_retries=self._monitor.allocator_retries if self._retries is None else self._retries,
            steps=self._steps,
            seconds=seconds,
            step_seconds=self._step_seconds,
            message=failure.message if failure else "",
            traceback=failure.traceback if failure else "",
            requested_bytes=failure.requested_bytes if failure else None,
            held_bytes=failure.held_bytes if failure else None,
            flops=self._flops,
            growth=self._growth,
            notes=self._notes,
            breakdown=self._breakdown,
        )
