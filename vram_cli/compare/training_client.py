"""The parent's side of trainings in a worker process. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from vram_cli.compare.messages import REPLY, OpenTraining, RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.records import ComparePlan
from vram_cli.config import Config
from vram_cli.errors import CutShortError, ProbeError, VramError
from vram_cli.probe import last_words
from vram_cli.probe.first_request import first_reply
from vram_cli.probe.stopped_worker import sender_of
from vram_cli.probe.user_code import code_folder, ended_by_user_code
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome

_RESUME = "finished runs are kept: run the same command to go on"


class _KilledError(CutShortError):
    """Another process or the kernel ended a training."""


class TrainingClient:
    """Trains a config in a worker process, which is replaced if it dies. A context manager.

    Args:
        config: The config to train.
        plan: Data, epochs and learning rate rule.
        device: Device string, such as "cuda:0".
        max_eval_batch: Largest batch known to fit, and so the largest that validation may use.
        download: Whether torchvision may download missing data files.
    """

    def __init__(
        self, config: Config, plan: ComparePlan, *, device: str, max_eval_batch: int, download: bool = False
    ) -> None:
        self._session = OpenTraining(
            config=config.model_dump(mode="json"),
            download=download,
            folder=code_folder(config),
            device=device,
            plan=plan,
            max_eval_batch=max_eval_batch,
        )
        self._config = config
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> TrainingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def train(self, request: RunTraining, report: Callable[[TrainingProgress], None]) -> TrainingDone:
        """Run one training, once more if its process was killed. The reply has a message if memory ran out.

        Raises:
            ConfigError: The data has no real samples, or the config names code that cannot be used.
            WorkloadError: The model, the data or the loss raised an error, or ended the process.
            MachineError: The training made no progress, its process was killed twice, or the computer ran out of RAM.
            ProbeError: The worker died for another reason.
        """
        try:
            reply = self._train(request, report)
        except _KilledError:
            reply = self._train(request, report)
        if reply.run is None:
            self._end()
        return reply

    def _train(self, request: RunTraining, report: Callable[[TrainingProgress], None]) -> TrainingDone:
        worker = self._worker or self._start()
        try:
            reply: TrainingDone = worker.request(
                request, report, timeout=self._config.search.trial_timeout, is_per_event=True
            )
        except WorkerStopped as stop:
            subject = f"training with batch size {request.batch_size:,}"
            error = self._error_of(stop, worker, subject)
            self._end()
            raise error from None
        return reply

    def _error_of(self, stop: WorkerStopped, worker: WorkerProcess, subject: str) -> VramError:
        if stop.outcome is Outcome.TIMED_OUT:
            seconds = self._config.search.trial_timeout
            return CutShortError(
                f"{subject} made no progress for {seconds:.0f} s and was stopped",
                f"give it more time with --set search.trial_timeout=SECONDS; {_RESUME}",
            )
        if stop.outcome is Outcome.HOST_MEMORY:
            return CutShortError(f"{subject} was stopped: {stop.message}", f"close other programs; {_RESUME}")
        message = f"the process of {subject} {stop.message}"
        if worker.signal_from_outside:
            return _KilledError(message, f"{sender_of(worker)}; {_RESUME}, or leave this size out of --batch-sizes")
        return ended_by_user_code(stop, worker, self._config) or ProbeError(
            message, last_words.summary(worker.stderr())
        )

    def _start(self) -> WorkerProcess:
        # Without the allocator settings that make trials reproducible, which would slow down training.
        worker = WorkerProcess({}, entry="vram_cli.compare.worker", replies=REPLY)
        self._worker = worker
        first_reply(worker, self._session, self._config, download=self._session.download)
        return worker

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
