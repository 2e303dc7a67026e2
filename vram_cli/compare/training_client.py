"""The parent's side of trainings in a worker process. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from vram_cli.compare.messages import REPLY, OpenTraining, RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.records import ComparePlan
from vram_cli.config import Config
from vram_cli.errors import ProbeError
from vram_cli.probe import last_words
from vram_cli.probe.user_code import code_folder, ended_by_user_code
from vram_cli.probe.worker_process import WorkerProcess, WorkerStopped
from vram_cli.records import Outcome


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
        """Run one training. If memory runs out or the worker is killed, the reply has a message instead of a run.

        Raises:
            ConfigError: The data has no real samples, or the config names code that cannot be used.
            WorkloadError: The model, the data or the loss raised an error, or ended the process.
            ProbeError: The worker died for another reason.
        """
        worker = self._worker or self._start()
        try:
            reply: TrainingDone = worker.request(request, report)
        except WorkerStopped as stop:
            out_of_memory = worker.was_killed or stop.outcome is Outcome.HOST_MEMORY
            error = None if out_of_memory else ended_by_user_code(worker, self._config)
            message = f"the training process {stop.message}" if stop.outcome is Outcome.KILLED else stop.message
            cause = last_words.summary(worker.stderr())
            self._end()
            if not out_of_memory:
                raise error or ProbeError(message, cause) from None
            return TrainingDone(run=None, message=message)
        if reply.run is None:
            self._end()
        return reply

    def _start(self) -> WorkerProcess:
        # Without the allocator settings that make trials reproducible, which would slow down training.
        self._worker = worker = WorkerProcess({}, entry="vram_cli.compare.worker", replies=REPLY)
        worker.send(self._session)
        return worker

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
