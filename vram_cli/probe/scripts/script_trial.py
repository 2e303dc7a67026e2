"""A trial of a script, in the process that runs it: the process ends with the trial, in the middle of the script."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn

from vram_cli.accounting.attribution import with_modules_and_timeline
from vram_cli.accounting.module_tracker import ModuleTracker
from vram_cli.allocator.allocation_trace import AllocationTrace, trace_from
from vram_cli.allocator.growth import STEPS_TO_TELL, grown, growth_per_step, may_grow
from vram_cli.config import Config
from vram_cli.errors import (
    REAL_TRIALS,
    ConfigError,
    CutShortError,
    MachineError,
    ProbeError,
    UnsupportedError,
    VramError,
    WorkloadError,
)
from vram_cli.probe.devices.monitor import MemoryMonitor, PeakStats
from vram_cli.probe.messages import PhaseStarted, Refused
from vram_cli.probe.scripts.compiled import lines_that_compile
from vram_cli.probe.scripts.grounds import open_ground
from vram_cli.probe.scripts.isolation import Effects, loss
from vram_cli.probe.scripts.loaders import Loaders
from vram_cli.probe.scripts.messages import ANSWER, ScriptDone, ScriptRequest
from vram_cli.probe.scripts.own_traceback import ending, is_normal, of_the_script, stack_of_the_script
from vram_cli.probe.scripts.ranks import several_processes
from vram_cli.probe.scripts.rehearsal import rehearsal_of
from vram_cli.probe.scripts.script_labels import (
    label_other_modules,
    label_script,
    label_script_gradients,
    lines_at_peak,
    whole_of,
)
from vram_cli.probe.scripts.watch import Watch
from vram_cli.probe.worker.oom_errors import Failure, describe
from vram_cli.records import Breakdown, Category, Detail, Growth, Measurement, Outcome, Phase
from vram_cli.user_lines import user_line
from vram_cli.workload import tensors_of
from vram_cli.workload.parallel import is_sharded_by_fsdp1

_VALIDATION_SECONDS = 60.0
"""Time after the steps of a trial in which a validation must begin."""
_UNCOMPILED = "the call of torch.compile at {} had no effect, since the tensors of the CPU are tracked one by one"
_ROWS_UNCOMPILED = "the script calls torch.compile at {}: rows and lines are those of the same steps without it"
_FSDP1 = "FullyShardedDataParallel (FSDP1): its memory depends on how far the CPU runs ahead of the GPU"
_NO_OPTIMIZER = "no optimizer of torch.optim stepped, so each backward pass counts as a step"


class ScriptTrial:
    """Runs a script for a few steps at one batch size, reports, and ends the process.

    Args:
        request: the trial.
        send: sends an answer as a line of JSON.
        effects: what the script has done besides training.
        before_end: called after the last answer, before the process ends.
    """

    def __init__(
        self,
        request: ScriptRequest,
        send: Callable[[str], None],
        effects: Effects,
        before_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._request, self._send, self._effects, self._before_end = request, send, effects, before_end
        if not (request.may_lose or request.has_overlay):
            effects.on_loss = self._loses
        self._config = Config.model_validate(request.config)
        self._loaders = Loaders(plan=request.plan, on_next=lambda _: None)
        self._watch = Watch(self, self._loaders, self._config.search.steps, has_optimizer=request.has_optimizer)
        self._monitor: MemoryMonitor | None = None
        self._started = self._step_started = time.perf_counter()
        self._step_seconds: float | None = None
        self._resident_bytes = 0
        self._held: list[int] = []
        self._done_at: float | None = None
        self._validated = self._is_ending = self._is_fork = False
        self._pid = os.getpid()

    def run(self, script: Callable[[], None]) -> NoReturn:
        """Run the script, and end the process as soon as the trial is over."""
        error: BaseException | None = None
        self._is_fork = True
        try:
            self.attach(lambda start: start())
            script()
        except BaseException as raised:  # noqa: BLE001 - every exception is an outcome
            error = raised
        self.script_ended(error)

    def script_ended(self, error: BaseException | None) -> NoReturn:
        """Report a script that has come to its end by itself, or by an exception."""
        if isinstance(error, VramError):
            self._refuse(error)
        failure = None
        if isinstance(error, Exception):
            failure = self._failure_of(error)
        elif error is not None and not is_normal(error):
            failure = replace(self._failure_of(RuntimeError()), message=ending(error), traceback="")
        self._end(failure, is_whole=True)

    @property
    def has_trained(self) -> bool:
        """Whether this process has trained, unlike one that only starts another."""
        return self._watch.backwards > 0 and not self._is_foreign

    def attach(self, when_needed: Callable[[Callable[[], None]], None]) -> None:
        """Follow the training of this process from now on.

        Args:
            when_needed: calls a function, which opens the device, at the time that this process begins to need it.
        """
        self._loaders.install()
        self._watch.install()
        self._compiled = lines_that_compile()
        if self._request.is_rehearsal:
            self._watch.input_sizes = set()
        ground = open_ground(self._config, is_virtual=self._request.is_virtual)
        self._checked = ground.checked
        self._report_out_of_memory()
        when_needed(lambda: ground.when_used(self._start_on))

    def enter(self, phase: Phase) -> None:
        """Start a phase; the trial ends as a validation ends that it waited for."""
        monitor = self._monitor
        if monitor is None or self._is_foreign:
            return
        if self._validated and phase is not Phase.VALIDATION:
            self._end()
        if phase is Phase.VALIDATION and self._done_at is not None:
            self._validated = True
        if self._is_tracked:
            self._label(phase)
        monitor.start_phase(phase)
        self._tell(phase)

    def model_runs(self, inputs: Any) -> None:
        """Label the inputs of a model as its batch, whenever they were made, and note what else is there."""
        monitor = self._monitor
        if monitor is None or self._is_foreign:
            return
        if self._watch.steps and not self._resident_bytes:
            device = monitor.device.type
            batch_bytes = sum(tensor.nbytes for tensor in tensors_of(inputs) if tensor.device.type == device)
            self._resident_bytes = max(monitor.allocated_bytes() - batch_bytes, 0)
        if self._is_tracked:
            monitor.tracker.label_inputs(tensors_of(inputs), Category.BATCH_DATA)

    def step_ended(self) -> None:
        """Keep the figures of a step, and start the next one."""
        if self._is_foreign:
            return
        if self._is_fork and not self._request.is_virtual and (others := _ranks_in_group()) > 1:
            self._refuse(several_processes(f"the script starts {others} training processes by itself"))
        if (monitor := self._monitor) is None:
            raise _no_device(self._config)
        if self._request.is_virtual and is_sharded_by_fsdp1(self._model):
            self._refuse(UnsupportedError(_FSDP1, f"use fully_shard (FSDP2), or {REAL_TRIALS}"))
        now = time.perf_counter()
        if self._watch.steps > 1:
            self._step_seconds = min(self._step_seconds or now, now - self._step_started)
        self._step_started = now
        monitor.end_phase()
        self._held.append(monitor.allocated_bytes())
        if self._watch.steps == 1:
            monitor.discard_first_step_peak()
        if self._is_tracked:
            label_script(monitor.tracker, self._model, self._watch.optimizers)
            monitor.tracker.mark_step()
        if not self._watch.is_done:
            self._start_step(monitor)

    def may_end(self) -> None:
        """End the trial, unless more steps have to show whether memory grows, or the script's validation is awaited."""
        if self._is_foreign:
            return
        if self._request.detail is Detail.VALIDATION:
            self._done_at = self._done_at or time.perf_counter()
            if not self._validated and time.perf_counter() - self._done_at < _VALIDATION_SECONDS:
                return
        elif len(self._held) < STEPS_TO_TELL and may_grow(self._held) and self._watches_growth:
            return
        self._end()

    @property
    def _is_foreign(self) -> bool:
        """Whether this process is one that the script has forked: it is none of the trial's business."""
        return os.getpid() != self._pid

    @property
    def _watches_growth(self) -> bool:
        """Whether more steps may show that memory grows: not if other ranks may think otherwise, and wait for this."""
        has_others = os.environ.get("WORLD_SIZE", "1") != "1" and not self._request.is_virtual
        return self._request.peak is None and not has_others

    @property
    def _is_tracked(self) -> bool:
        """Whether the storage tracker follows the script, from its start."""
        return self._request.peak is not None or (self._monitor is not None and not self._monitor.has_peak_counters)

    @property
    def _model(self) -> nn.Module:
        return whole_of(self._watch.models)

    def _start_on(self, monitor: MemoryMonitor) -> None:
        """Start the trial on the script's device."""
        self._device = monitor.describe()
        self._monitor = monitor
        monitor.start_trial()
        if self._request.is_rehearsal:
            monitor.remove_limit()
        if self._is_tracked:
            tracker = monitor.tracker
            tracker.on_failure = self._operation_failed
            if self._request.detail in (Detail.ROWS, Detail.MODULES):
                tracker.line = lambda: user_line(sys._getframe(2)) or self._watch.backward_line
            tracker.__enter__()
        self._start_step(monitor)
        monitor.start_phase(self._watch.phase)
        self._tell(self._watch.phase)

    def _start_step(self, monitor: MemoryMonitor) -> None:
        monitor.wait_for_collectives()
        monitor.start_step()
        monitor.tracker.flops = 0
        is_last = self._watch.steps == self._config.search.steps - 1
        if is_last and self._is_tracked and self._request.detail is Detail.MODULES:
            modules = monitor.tracker.modules = ModuleTracker(self._model)
            modules.tracking().__enter__()

    def _label(self, phase: Phase) -> None:
        tracker = self._opened().tracker
        if phase is Phase.FORWARD:
            tracker.label_unknown(Phase.BATCH, Category.BATCH_DATA)
        if phase is Phase.OPTIMIZER:
            label_script_gradients(tracker, self._model, self._watch.optimizers)

    def _tell(self, phase: Phase) -> None:
        self._send(ANSWER.dump_json(PhaseStarted(phase=phase)).decode())

    def _report_out_of_memory(self) -> None:
        """Report an out-of-memory error of the GPU before the script can catch it.

        PyTorch makes the exception only if it is about to raise it into Python; allocations that cuDNN tries and does
        without are none.
        """
        trial = self

        def init(error: torch.OutOfMemoryError, *arguments: object) -> None:
            RuntimeError.__init__(error, *arguments)
            trial._operation_failed(error)

        torch.OutOfMemoryError.__init__ = init  # type: ignore[method-assign, assignment]

    def _operation_failed(self, error: Exception) -> None:
        """End the trial if an operation ran out of memory."""
        if self._is_foreign or self._is_ending or self._monitor is None:
            return
        self._is_ending = True  # what follows may fail as well
        self._monitor.remove_limit()
        failure = self._failure_of(error)
        if failure.outcome is Outcome.ERROR:
            self._is_ending = False
            if not self._request.is_rehearsal:
                self._monitor.count_as_used(0)  # the script may go on, under the limit
            return
        self._end(replace(failure, traceback=stack_of_the_script(error)))

    def _failure_of(self, error: Exception) -> Failure:
        error.__traceback__ = of_the_script(error.__traceback__)
        if self._monitor is None:
            return describe(error, "cpu" if self._config.device.name == "cpu" else "cuda")
        self._monitor.remove_limit()
        failure = describe(error, self._monitor.device.type)
        if failure.requested_bytes is None:
            return replace(failure, held_bytes=None)
        failed_at = self._monitor.tracker.failed_at_bytes
        held = max(failure.held_bytes or 0, self._monitor.allocated_bytes()) if failed_at is None else failed_at
        return replace(failure, held_bytes=held)

    def _end(self, failure: Failure | None = None, *, is_whole: bool = False) -> NoReturn:
        """Report, and end the process.

        Args:
            failure: the exception that ended the script; None if there was none.
            is_whole: whether the script has come to its end by itself.
        """
        if self._is_foreign:
            os._exit(0)
        try:
            if is_whole and failure is None:
                self._watch.end_step()
            self._send(ANSWER.dump_json(self._answer(failure, is_whole=is_whole)).decode())
        except VramError as error:
            self._refuse(error)
        except BaseException as error:  # noqa: BLE001 - a bug of vram, which must not be taken for the script's
            traceback.print_exc()
            self._refuse(ProbeError(f"the trial of the script failed: {type(error).__name__}: {error}"))
        self._leave()

    def _leave(self) -> NoReturn:
        """End the process at once: no `except`, `finally` or exit handler of the script runs."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._before_end()
        os._exit(0)

    def _loses(self, line: str) -> None:
        if not self._is_ending:
            self._refuse(loss(" ".join(sys.argv), line))

    def _refuse(self, error: VramError) -> NoReturn:
        self._send(ANSWER.dump_json(refused(error)).decode())
        self._leave()

    def _answer(self, failure: Failure | None, *, is_whole: bool) -> ScriptDone:
        self._is_ending = True
        monitor = self._monitor
        if monitor is None:
            if failure is None:
                raise _no_device(self._config)
            measurement = self._measurement(failure, None, is_whole=is_whole)
            return ScriptDone(measurement=measurement)
        phase = monitor.phase
        monitor.remove_limit()
        monitor.end_phase(failed=failure is not None)
        measurement = self._measurement(failure, phase, is_whole=is_whole)
        rehearsal = None
        if self._request.is_rehearsal:
            rehearsal = rehearsal_of(self._loaders, self._watch, self._device, monitor)
        is_repeated = rehearsal is not None and rehearsal.training and not self._request.plan.training
        if measurement.fits or not is_repeated:
            measurement = self._checked(measurement)
        return ScriptDone(
            measurement=measurement,
            rehearsal=rehearsal,
            step_peak=(*monitor.step_peak,),
            allocator_bytes=self._device.allocator_bytes,
            made=tuple(self._effects.writes.made),
            discarded_bytes=self._effects.discarded_bytes(),
        )

    def _measurement(self, failure: Failure | None, phase: Phase | None, *, is_whole: bool) -> Measurement:
        monitor, steps, wanted = self._monitor, self._watch.steps, self._config.search.steps
        outcome, message = (failure.outcome, failure.message) if failure else (Outcome.FITS, "")
        if failure is None and is_whole and steps < wanted:
            outcome, message = Outcome.ENDED, f"the script ended after {steps} of {wanted} steps"
        return Measurement(
            batch_size=self._request.batch_size,
            outcome=outcome,
            phase=phase if failure else None,
            peaks=monitor.peaks if monitor else (),
            resident_bytes=self._resident_bytes,
            allocator_retries=monitor.allocator_retries if monitor else 0,
            steps=steps,
            seconds=time.perf_counter() - self._started,
            step_seconds=self._step_seconds,
            message=message,
            traceback=failure.traceback if failure else "",
            requested_bytes=failure.requested_bytes if failure else None,
            held_bytes=failure.held_bytes if failure else None,
            flops=monitor.tracker.flops or None if monitor and self._is_tracked else None,
            growth=self._growth(),
            notes=self._notes(),
            breakdown=self._breakdown() if outcome is Outcome.FITS else None,
            writes=self._effects.lines(),
        )

    def _notes(self) -> tuple[str, ...]:
        notes = [] if self._watch.optimizers or not self._watch.backwards else [_NO_OPTIMIZER]
        if self._compiled and self._monitor is not None:
            text = _ROWS_UNCOMPILED if self._monitor.has_peak_counters else _UNCOMPILED
            notes.append(text.format(", ".join(self._compiled)))
        return tuple(notes)

    def _growth(self) -> Growth | None:
        rate = growth_per_step(self._held) if len(self._held) >= STEPS_TO_TELL else None
        return None if rate is None else grown(rate, len(self._held), AllocationTrace((), (), (), {}))

    def _breakdown(self) -> Breakdown | None:
        detail = self._request.detail
        if not self._is_tracked or detail not in (Detail.ROWS, Detail.MODULES):
            return None
        monitor = self._opened()
        label_other_modules(monitor.tracker)
        peak = PeakStats(*self._request.peak) if self._request.peak else monitor.step_peak
        breakdown = monitor.breakdown(self._request.batch_size, peak)
        if detail is Detail.MODULES:
            trace = trace_from(monitor.tracker.records, monitor.tracker.markers)
            breakdown = with_modules_and_timeline(breakdown, trace)
        return replace(breakdown, lines=lines_at_peak(monitor.tracker))

    def _opened(self) -> MemoryMonitor:
        if self._monitor is None:
            raise _no_device(self._config)
        return self._monitor


def refused(error: VramError) -> Refused:
    """Return the answer for an error that the user can fix."""
    kinds = (WorkloadError, UnsupportedError, ConfigError, CutShortError, MachineError)
    name = next((kind.__name__ for kind in kinds if isinstance(error, kind)), "ProbeError")
    trace = error.traceback if isinstance(error, WorkloadError) else ""
    return Refused(error=name, message=error.message, hint=error.hint, traceback=trace)


def _ranks_in_group() -> int:
    """Return the processes that train together, as far as PyTorch knows."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _no_device(config: Config) -> ConfigError:
    if config.device.name == "cpu":
        return ConfigError("the script trained on no device that vram measures")
    return ConfigError(
        "the script trained without the GPU: it never used CUDA",
        "let it choose its device by torch.cuda.is_available(), or by an option in the command; for its training on "
        "the CPU, add --device cpu",
    )
