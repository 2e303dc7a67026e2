"""The parent's side of trainings in a child process. Imports no torch."""

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
    """Trains a config again and again in a child process, which is replaced where it dies. A context manager.

    Args:
        config: what to train.
        plan: on what, and for how long.
        device: where, such as "cuda:0".
        largest: the largest batch that is known to fit: validation takes no larger ones.
        download: whether missing data files may be downloaded.
    """

    def __init__(self, config: Config, plan: ComparePlan, *, device: str, largest: int, download: bool = False) -> None:
        self._course = OpenTraining(
            config=config.model_dump(mode="json"),
            download=download,
            folder=code_folder(config),
            device=device,
            plan=plan,
            largest=largest,
        )
        self._config = config
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> TrainingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def train(self, task: RunTraining, on_progress: Callable[[TrainingProgress], None]) -> TrainingDone:
        """Run a training. If memory ran out or the worker was killed, the reply has no run and says why.

        Raises:
            ConfigError: the data has no samples to choose from, or the config names code that cannot be used.
            WorkloadError: the model, its data or its loss raise, or end the process.
            ProbeError: the worker died in an unforeseen way.
        """
        worker = self._worker or self._start()
        try:
            done: TrainingDone = worker.request(task, on_progress)
        except WorkerStopped as stop:
            killed = worker.was_killed or stop.outcome is Outcome.HOST_MEMORY
            error = None if killed else ended_by_user_code(worker, self._config)
            message = f"the training's process {stop.message}" if stop.outcome is Outcome.KILLED else stop.message
            cause = last_words.summary(worker.stderr())
            self._end()
            if not killed:
                raise error or ProbeError(message, cause) from None
            return TrainingDone(run=None, message=message)
        if done.run is None:
            self._end()
        return done

    def _start(self) -> WorkerProcess:
        # Without the malloc settings that make memory reproducible: they would slow training down.
        self._worker = worker = WorkerProcess({}, entry="vram_cli.compare.worker", replies=REPLY)
        worker.send(self._course)
        return worker

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
