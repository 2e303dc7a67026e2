"""One trial: build, collate a batch of n, run k full training steps, and say how it went."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from vram_cli.accounting.attribution import explained
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.accounting.storage_labels import label, label_gradients
from vram_cli.allocator.allocation_trace import record
from vram_cli.config import Config
from vram_cli.errors import VramError
from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.worker.oom_errors import Failure, describe
from vram_cli.records import Breakdown, Measurement, Outcome, Phase, PhasePeak
from vram_cli.workload import (
    Batch,
    DataSource,
    Workload,
    build_workload,
    channels_last,
    parameter_dtype,
    tensors_of,
)


class Trial:
    """Runs one batch size on one device and remembers how far it came.

    Args:
        meter: counts the device's memory.
        tell: told of each phase as it begins.
        explain: whether the measurement should carry a breakdown of the last step.
        detail: whether the breakdown should carry modules and timeline; then each module call is followed too.
    """

    def __init__(
        self, meter: MemoryMonitor, tell: Callable[[Phase], None], *, explain: bool = False, detail: bool = False
    ) -> None:
        self._meter, self._tell, self._explain, self._detail = meter, tell, explain or detail, detail
        self._steps = 0
        self._step_seconds: float | None = None
        self._resident = 0
        self._breakdown: Breakdown | None = None
        self._peaks: tuple[PhasePeak, ...] = ()
        self._retries: int | None = None
        self._poisoned = False

    def run(self, config: Config, data: DataSource, batch_size: int, steps: int) -> tuple[Measurement, bool]:
        """Return what was measured, and whether the process may be poisoned.

        Raises:
            VramError: the config names code that cannot be used, or that gives what it should not.
        """
        began, failure, phase = time.perf_counter(), None, None
        self._meter.begin()
        try:
            self._run(config, data, batch_size, steps)
        except VramError:
            self._meter.lift_limit()
            raise
        except Exception as error:  # noqa: BLE001 - every exception is an outcome; describe() says which
            self._meter.lift_limit()
            failure = describe(error, self._meter.device.type)
            failure = replace(failure, held_bytes=self._held_as_it_failed(failure))
            phase = self._meter.phase
            self._meter.leave(failed=True)
        # Out here the traceback is gone, and with it the frames that held the tensors (pytorch#18853).
        self._clean(failure)
        poisoned = self._poisoned or bool(failure and failure.poisoned)
        return self._measurement(batch_size, time.perf_counter() - began, phase, failure), poisoned

    def _run(self, config: Config, data: DataSource, batch_size: int, steps: int) -> None:
        meter = self._meter
        with meter.ledger if meter.needs_ledger else nullcontext():
            self._enter(Phase.BUILD)
            work = build_workload(config, meter.device)
            self._enter(Phase.BATCH)
            batch = data.make_batch(batch_size, meter.device, parameter_dtype(config))
            batch = channels_last(batch) if config.train.channels_last else batch
            for step in range(steps):
                self._step(work, batch, watch=meter.needs_ledger and step == steps - 1)
                if step == 0:
                    meter.settle()
            if self._explain and not config.train.compile:  # compiled code passes no dispatcher that could be watched
                self._account(work, batch, batch_size)

    def _held_as_it_failed(self, failure: Failure) -> int | None:
        """Return what tensors held as an allocation failed, at least: by now, backward has let go of much."""
        if failure.requested_bytes is None:
            return None
        failed_at = self._meter.ledger.failed_at_bytes
        return max(failure.held_bytes or 0, self._meter.allocated_now()) if failed_at is None else failed_at

    def _account(self, work: Workload, batch: Batch, batch_size: int) -> None:
        """Break the last step down; where it was not watched, run it once more for that.

        Under watch PyTorch adds gradients out of place: tensors that Python has seen are never reused. So the peak is
        that of the step before, and at the very limit there may be no room to watch: then there is no breakdown.
        """
        meter, peak = self._meter, self._meter.step_peak
        self._peaks, self._retries = meter.peaks, meter.retries
        if not meter.needs_ledger:
            try:
                self._step(work, batch, watch=True)
            except Exception as error:
                failure = describe(error, meter.device.type)
                if failure.outcome is Outcome.ERROR:
                    raise
                self._poisoned = failure.poisoned
                return
        meter.ledger.mark_step()
        self._breakdown = meter.breakdown(batch_size, peak)
        if self._detail:
            self._breakdown = explained(self._breakdown, record(meter.ledger.lives, meter.ledger.marks))

    def _step(self, work: Workload, batch: Batch, *, watch: bool) -> None:
        meter = self._meter
        began_forward = False
        label(meter.ledger, work, batch)
        watching: AbstractContextManager[object] = meter.ledger if watch and not meter.needs_ledger else nullcontext()
        following: AbstractContextManager[object] = nullcontext()
        if watch and self._detail:
            modules = meter.ledger.modules = ModuleTracker(work.model)
            following = modules.followed()
        meter.begin_step()
        meter.ledger.mark_step()

        def enter(phase: Phase) -> None:
            nonlocal began_forward
            if phase is Phase.FORWARD and not began_forward:  # later batches of an accumulation find gradients there
                began_forward = True
                self._resident = meter.allocated_now() - _bytes_on(meter.device, batch)
            if phase is Phase.OPTIMIZER:
                label_gradients(meter.ledger, work)
            self._enter(phase)

        began = time.perf_counter()
        with following, watching:
            work.step(work, batch, enter)
            meter.leave()
        if not watch or meter.needs_ledger:
            seconds = time.perf_counter() - began
            self._step_seconds = min(self._step_seconds or seconds, seconds)
            self._steps += 1
        label(meter.ledger, work, batch)

    def _enter(self, phase: Phase) -> None:
        self._meter.enter(phase)
        self._tell(phase)

    def _clean(self, failure: Failure | None) -> None:
        self._meter.lift_limit()
        gc.collect()
        if failure is None or not failure.poisoned:
            self._meter.end()

    def _measurement(
        self, batch_size: int, seconds: float, phase: Phase | None, failure: Failure | None
    ) -> Measurement:
        return Measurement(
            batch_size=batch_size,
            outcome=failure.outcome if failure else Outcome.FITS,
            phase=phase,
            peaks=self._peaks or self._meter.peaks,
            resident_bytes=self._resident,
            allocator_retries=self._meter.retries if self._retries is None else self._retries,
            steps=self._steps,
            seconds=seconds,
            step_seconds=self._step_seconds,
            message=failure.message if failure else "",
            traceback=failure.traceback if failure else "",
            requested_bytes=failure.requested_bytes if failure else None,
            held_bytes=failure.held_bytes if failure else None,
            breakdown=self._breakdown,
        )


def _bytes_on(device: torch.device, batch: Batch) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors_of(batch) if tensor.device.type == device.type)
