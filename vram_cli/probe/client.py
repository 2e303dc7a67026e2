"""The parent's side of the worker process: trials are asked for, watched and interpreted. Imports no torch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

from vram_cli.config import Config
from vram_cli.errors import CutShortError, MachineError, ProbeError, VramError
from vram_cli.probe import last_words
from vram_cli.probe.devices.malloc import REPRODUCIBLE_MALLOC_ENV
from vram_cli.probe.messages import InspectWorkload, OpenSession, PhaseStarted, Ready, RunTrial, WorkloadInspected
from vram_cli.probe.user_code import code_folder, ended_by_user_code
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Detail, Measurement, Outcome, Phase, RunInfo

START_TIMEOUT_S = 600.0
"""Time to import torch, to read or download the data, and for the warm-up."""

_NO_VERDICT = "this says nothing about the GPU's memory"


class WorkerProbe:
    """Measures batch sizes in a worker process, and replaces the process after anything that may have poisoned it.

    A context manager: entering it starts the worker, leaving it ends the worker, from any thread and in the middle of a
    trial too. The arguments are those of `open_probe`.
    """

    def __init__(
        self,
        config: Config,
        *,
        download: bool = False,
        calibrated: bool = True,
        deadline: float | None = None,
        snapshot: Path | None = None,
        reuse: WorkerProbe | None = None,
    ) -> None:
        self._config, self._download, self._calibrated = config, download, calibrated
        self._deadline, self._snapshot, self._reuse = deadline, snapshot, reuse
        self._worker: WorkerProcess | None = None
        self._ready: Ready | None = None
        self._is_timing = False
        self._is_closed = False

    def __enter__(self) -> WorkerProbe:
        """Start the worker, so that a missing device or missing data is reported at once."""
        worker = self._reuse._hand_over(self._config) if self._reuse else None
        if worker is None:
            self._start()
            return self
        try:
            self._worker = worker
            self._open(worker)
        except VramError:
            if self._reuse is not None:  # its session is still open in the worker
                self._reuse._worker, self._worker = self._worker, None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the worker for good."""
        self._is_closed = True
        if (worker := self._worker) is not None:
            worker.kill()  # a trial that runs in another thread ends itself
        self._end()

    @property
    def info(self) -> RunInfo:
        """The device, the data, the config and the versions."""
        ready, source = self._opened(), self._config.source
        return RunInfo(
            config_name=str(source.path or source.name),
            config=self._config.model_dump(mode="json"),
            overrides=source.overrides,
            device=ready.device,
            data=ready.data,
            versions=ready.versions,
            remark=ready.remark,
        )

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        return self._worker.pid if self._worker else None

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size.

        Raises:
            WorkloadError: code that the config names ended the worker.
            CutShortError: a prediction took longer than the trial timeout, or the computer ran out of RAM.
            ProbeError: the worker died in a prediction, which says nothing about memory, or could not be started.
        """
        return self._run(batch_size, detail, confirm=False)

    def confirm(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size again from a clean state.

        On a GPU in a new worker, because earlier trials shape the allocator's cache. On the CPU freed memory goes back
        to the system, so trials in one process start alike; between processes the heap differs by some 100 KiB, which
        is more than a sample of a small model. A prediction is simulated again.

        Raises:
            VramError: as `measure`.
        """
        if self._opened().device.confirm_in_new_process:
            self._end()
        return self._run(batch_size, detail, confirm=True)

    def _run(self, batch_size: int, detail: Detail, *, confirm: bool) -> Measurement:
        worker = self._worker_for(detail)
        phase: Phase | None = None

        def on_event(event: PhaseStarted) -> None:
            nonlocal phase
            phase = event.phase

        snapshot = str(self._snapshot.resolve()) if self._snapshot else None
        trial = RunTrial(batch_size=batch_size, detail=detail, confirm=confirm, snapshot=snapshot)
        started = time.monotonic()
        try:
            reply = worker.request(
                trial, on_event, timeout=self._timeout(), max_resident_bytes=self._opened().guard_bytes
            )
        except WorkerStopped as stop:
            error = self._error_of(stop, worker, batch_size)
            self._end()
            if error is not None:
                raise error from None
            seconds = time.monotonic() - started
            message = f"the trial's process {stop.message}" if stop.outcome is Outcome.KILLED else stop.message
            return Measurement(
                batch_size=batch_size, outcome=stop.outcome, phase=phase, seconds=seconds, message=message
            )
        except VramError:
            self._end()
            raise
        if reply.poisoned:
            self._end()
        measurement: Measurement = reply.measurement
        return measurement

    def _worker_for(self, detail: Detail) -> WorkerProcess:
        """Return a worker for a trial: steps are timed in a process without anything that slows them down."""
        is_timing = detail is Detail.TIMES
        if self._worker is not None and self._ready is not None and is_timing == self._is_timing:
            return self._worker
        self._is_timing = is_timing
        return self._start()

    def _timeout(self) -> float:
        timeout = self._config.search.trial_timeout
        return timeout if self._deadline is None else min(timeout, max(0.0, self._deadline - time.monotonic()))

    def _error_of(self, stop: WorkerStopped, worker: WorkerProcess, batch_size: int) -> VramError | None:
        """Return the error that a stopped trial stands for; None if it is an outcome of the trial.

        A real trial may be killed or crash for lack of memory. A prediction may not: whatever ends it, it says nothing
        about the GPU's memory. The deadline of a search is no error: the answer is what is known by then.
        """
        if self._is_closed:
            return ProbeError("the probe has been closed")
        predicts, is_dead = self._opened().device.is_simulated, stop.outcome is Outcome.KILLED
        error = ended_by_user_code(worker, self._config) if is_dead and (predicts or worker.exited) else None
        return error or (self._prediction_error(stop, worker, batch_size) if predicts else None)

    def _prediction_error(self, stop: WorkerStopped, worker: WorkerProcess, batch_size: int) -> VramError | None:
        subject = f"the prediction of batch {batch_size:,} for {self._opened().device.name}"
        if stop.outcome is Outcome.KILLED:
            cause, code = last_words.summary(worker.stderr()), self._config.user_code
            return ProbeError(
                f"{subject} broke off: its process {stop.message}" + (f": {cause}" if cause else ""),
                f"{_NO_VERDICT}; run it again, and report it if that does not help"
                + (f"; {', '.join(code)} ran in that process too" if code else ""),
            )
        if stop.outcome is Outcome.HOST_MEMORY:
            return CutShortError(
                f"{subject} was stopped: {stop.message}",
                f"{_NO_VERDICT}; end other programs, or predict on a larger computer",
            )
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return None
        return CutShortError(
            f"{subject} did not end within {self._config.search.trial_timeout:.0f} s",
            f"{_NO_VERDICT}; give it more time with --set search.trial_timeout=SECONDS",
        )

    def _start(self) -> WorkerProcess:
        self._end()
        self._worker = worker = WorkerProcess(self._environment())
        if self._is_closed:  # asked after the assignment: `__exit__` either sees the worker or is seen here
            self._end()
            raise ProbeError("the probe has been closed")
        self._open(worker)
        return worker

    def _open(self, worker: WorkerProcess) -> None:
        """Open the session in a worker; one that refuses a prediction can still be asked for another one."""
        try:
            reply = worker.request(self._session(), timeout=START_TIMEOUT_S)
        except WorkerStopped as stop:
            error = ended_by_user_code(worker, self._config) or _failed_start(stop, worker)
            self._end()
            raise error from None
        except VramError:
            if not self._may_predict():
                self._end()
            raise
        # The first reply stays: a later worker may see the device differently, and an answer needs one heading.
        self._ready = self._ready or reply

    def _session(self) -> OpenSession:
        config = self._config
        if self._ready is not None and self._ready.device.type == "cpu":
            # Free RAM changes; every worker of this probe gets the memory that the first one found.
            memory_limit = {"memory_limit": self._ready.device.capacity_bytes}
            config = config.model_copy(update={"device": config.device.model_copy(update=memory_limit)})
        return OpenSession(
            config=config.model_dump(mode="json"),
            download=self._download,
            folder=code_folder(self._config),
            calibrated=self._calibrated,
            timed=self._is_timing,
        )

    def _environment(self) -> dict[str, str]:
        """Return the environment that PyTorch and the C library read as they start."""
        device = self._config.device
        if device.gpu is not None:
            # A GPU in this machine would answer for the one that is simulated, and lend it its context.
            return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
        if device.name == "cpu" and not self._is_timing:
            return REPRODUCIBLE_MALLOC_ENV
        if not device.expandable_segments:
            return {}
        # The older of its two names: PyTorch 2.9 reads this option under that name only (pytorch#183387).
        name = "PYTORCH_CUDA_ALLOC_CONF"
        return {name: ",".join(filter(None, (os.environ.get(name), "expandable_segments:True")))}

    def _may_predict(self) -> bool:
        return self._config.device.gpu is not None or self._config.device.name == "auto"

    def _hand_over(self, config: Config) -> WorkerProcess | None:
        """Give the worker away if it can go on with another config; end it otherwise.

        A prediction goes on after another one, with the same GPUs hidden and with code from the same folder: modules
        that were imported from another folder would stand for those of the same name.
        """
        worker, ours, theirs = self._worker, self._config, config
        same = ours.device.gpu is None or theirs.device.gpu is not None
        same = same and code_folder(ours) == code_folder(theirs)
        predicts = self._ready is None or self._ready.device.is_simulated
        goes_on = same and predicts and self._may_predict() and theirs.device.name == "auto"
        if worker is None or not goes_on or worker.has_ended:
            self._end()
            return None
        self._worker = None
        return worker

    def _end(self) -> None:
        if (worker := self._worker) is not None:
            self._worker = None
            worker.end()

    def _opened(self) -> Ready:
        if self._ready is None:
            raise ProbeError("the probe was used before it was entered as a context")
        return self._ready


def inspect_workload(config: Config, *, download: bool = False, samples: int = 0) -> WorkloadInspected:
    """Return a description of a config's data and model, with so many images per class.

    Raises:
        ConfigError: the data cannot be read, or the model cannot be built.
        WorkloadError: code of the config raises or ends the process.
        MachineError: the computer runs out of RAM.
        ProbeError: the worker process died.
    """
    request = InspectWorkload(
        config=config.model_dump(mode="json"), download=download, folder=code_folder(config), samples=samples
    )
    worker = WorkerProcess({})
    try:
        reply: WorkloadInspected = worker.request(request, timeout=START_TIMEOUT_S)
    except WorkerStopped as stop:
        if stop.outcome is Outcome.HOST_MEMORY:
            raise MachineError(stop.message, "inspect a smaller model, or end other programs") from None
        error = ended_by_user_code(worker, config) if stop.outcome is Outcome.KILLED else None
        raise error or ProbeError(
            f"the process that inspects data and model {stop.message}", last_words.summary(worker.stderr())
        ) from None
    finally:
        worker.end()
    return reply


def _failed_start(stop: WorkerStopped, worker: WorkerProcess) -> VramError:
    if stop.outcome is Outcome.HOST_MEMORY:
        return MachineError(stop.message, "end other programs, or train a smaller model")
    return ProbeError(
        f"the process for trials {stop.message} before its first trial", last_words.summary(worker.stderr())
    )
