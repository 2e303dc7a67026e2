"""The parent's side of the worker process: requests, limits and failures of trials. Imports no torch."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from vram_cli.config import Config
from vram_cli.errors import CutShortError, ProbeError, VramError
from vram_cli.probe.environment import allocator_options, environment_of
from vram_cli.probe.first_request import first_reply
from vram_cli.probe.messages import OpenSession, PhaseStarted, Ready, RunTrial, WarmUpLeft
from vram_cli.probe.stopped_worker import prediction_error
from vram_cli.probe.user_code import code_folder, ended_by_user_code
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Detail, Measurement, Outcome, Phase, RunInfo
from vram_cli.virtual_gpu import VARIABLE


class WorkerProbe:
    """Runs trials in a worker process, and replaces the process after an error that may have poisoned it.

    A context manager: entering it starts the worker, and leaving it ends the worker, from any thread and even during a
    trial. The arguments are those of `open_probe`.
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
        self._environment: dict[str, str] = {}
        self._worker: WorkerProcess | None = None
        self._ready: Ready | None = None
        self._warms_up: bool = reuse is None or reuse._warms_up
        """Whether a worker may run a small trial first; not if the user's code keeps tensors of it."""
        self._is_timing = False
        self._is_closed = False

    def __enter__(self) -> WorkerProbe:
        """Start the worker, so that a missing device or missing data is reported immediately."""
        self._environment = environment_of(self._config, calibrated=self._calibrated)
        worker = self._reuse._hand_over(self) if self._reuse else None
        if worker is None:
            self._start()
            return self
        try:
            self._worker = worker
            self._open(worker)
        except VramError:
            self._worker = None
            if self._reuse is not None and not worker.has_ended:  # its session is still open in the worker
                self._reuse._worker = worker
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the worker for good."""
        self._is_closed = True
        if (worker := self._worker) is not None:
            worker.kill()  # a trial in another thread notices and ends
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
            script=ready.script,
            parallel=ready.parallel,
            remark=ready.remark,
        )

    @property
    def pid(self) -> int | None:
        """The worker's process id; None if no worker is running."""
        return self._worker.pid if self._worker else None

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size.

        Raises:
            WorkloadError: code that the config names ended the worker.
            CutShortError: a prediction took longer than the trial timeout, or the computer ran out of RAM.
            ProbeError: the worker ended during a prediction, or could not be started.
        """
        return self._run(batch_size, detail, confirm=False)

    def confirm(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size again from a clean state.

        On a GPU, the trial runs in a new worker, because earlier trials shape the allocator's cache. On the CPU, freed
        memory returns to the system, so all trials of a process start from the same state; between processes the heap
        differs by about 100 KiB, which is more than one sample of a small model. A prediction is simulated again.

        Raises:
            VramError: as `measure`.
        """
        if self._opened().device.confirm_in_new_process:
            self._end()
        return self._run(batch_size, detail, confirm=True)

    def _run(self, batch_size: int, detail: Detail, *, confirm: bool) -> Measurement:
        try:
            worker = self._worker_for(detail)
        except CutShortError as late:
            if self._ready is None or not self._is_over():
                raise
            return Measurement(batch_size=batch_size, outcome=Outcome.TIMED_OUT, message=late.message)
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
        if isinstance(reply, WarmUpLeft):
            self._warms_up = False
            self._end()
            return self._run(batch_size, detail, confirm=confirm)
        if reply.poisoned:
            self._end()
        measurement: Measurement = reply.measurement
        return measurement

    def _worker_for(self, detail: Detail) -> WorkerProcess:
        """Return the worker for a trial. Timing has a process of its own, without the settings that slow steps down."""
        is_timing = detail is Detail.TIMES
        if self._worker is not None and self._ready is not None and is_timing == self._is_timing:
            return self._worker
        self._is_timing = is_timing
        return self._start()

    def _timeout(self) -> float:
        timeout = self._config.search.trial_timeout
        return timeout if self._deadline is None else min(timeout, max(0.0, self._deadline - time.monotonic()))

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _error_of(self, stop: WorkerStopped, worker: WorkerProcess, batch_size: int) -> VramError | None:
        """Return the error to raise for a stopped trial; None if stopping is an outcome of the trial.

        A real trial may be killed or crash because memory runs out. If a prediction ends early, the reason is unrelated
        to the GPU's memory. The deadline of a search is not an error: the result so far is the answer.
        """
        if self._is_closed:
            return ProbeError("the probe has been closed")
        predicts, is_disturbed = self._opened().device.is_simulated, stop.outcome is Outcome.ERROR
        if (predicts or is_disturbed or worker.exited) and (error := ended_by_user_code(stop, worker, self._config)):
            return error
        if is_disturbed:
            return ProbeError(f"the worker process {stop.message}")
        if not predicts or (stop.outcome is Outcome.TIMED_OUT and self._is_over()):
            return None
        subject = f"the prediction of batch {batch_size:,} for {self._opened().device.name}"
        return prediction_error(stop, worker, self._config, subject)

    def _start(self) -> WorkerProcess:
        self._end()
        self._worker = worker = self._new_worker()
        if self._is_closed:  # checked after the assignment: a concurrent `__exit__` sees the worker, or is noticed here
            self._end()
            raise ProbeError("the probe has been closed")
        try:
            self._open(worker)
        except BaseException:  # Ctrl-C as well: a probe that was not entered is not left either
            self._end()
            raise
        return worker

    def _new_worker(self) -> WorkerProcess:
        return WorkerProcess(allocator_options(self._config) if self._is_timing else self._environment)

    def _open(self, worker: WorkerProcess) -> None:
        reply = first_reply(worker, self._session(), self._config, download=self._download, deadline=self._deadline)
        # Keep the first reply: a later worker may report the device differently, and an answer has one heading.
        self._ready = self._ready or reply

    def _session(self) -> OpenSession:
        config = self._config
        if self._ready is not None and self._ready.device.type == "cpu":
            # Free RAM changes, so later workers get the capacity that the first one measured.
            memory_limit = {"memory_limit": self._ready.device.capacity_bytes}
            config = config.model_copy(update={"device": config.device.model_copy(update=memory_limit)})
        return OpenSession(
            config=config.model_dump(mode="json"),
            download=self._download,
            folder=code_folder(self._config),
            calibrated=self._calibrated,
            timed=self._is_timing,
            virtual=VARIABLE in self._environment,
            warm=self._warms_up,
        )

    def _may_predict(self) -> bool:
        return self._config.device.gpu is not None or self._config.device.name == "auto"

    def _hand_over(self, other: WorkerProbe) -> WorkerProcess | None:
        """Return the worker if it can continue with another probe's config; otherwise end it and return None.

        It can if both configs are predicted, for the same virtual GPU or with the same GPUs hidden, and with code from
        the same folder: modules imported from another folder would shadow those of the same name.
        """
        worker, config = self._worker, other._config
        same_process = self._environment == other._environment
        same_code = code_folder(self._config) == code_folder(config)
        was_predicted = self._may_predict() and (self._ready is None or self._ready.device.is_simulated)
        can_continue = same_process and same_code and was_predicted and config.device.name == "auto"
        if worker is None or not can_continue or worker.has_ended:
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
