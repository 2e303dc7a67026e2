"""The parent's side of trainings in a worker process. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from vram_cli.compare.messages import REPLY, REQUEST, OpenTraining, RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.records import ComparePlan
from vram_cli.config import Config
from vram_cli.errors import ProbeError
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.messages import Refused
from vram_cli.probe.worker_errors import HOST_FLOOR, ended_by_code, error_of, folder_of
from vram_cli.probe.worker_process import WorkerProcess


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
            folder=folder_of(config),
            device=device,
            plan=plan,
            max_eval_batch=max_eval_batch,
        )
        self._own_code = config.own_code
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
        worker.send(REQUEST.dump_json(request))
        while True:
            reply = worker.receive()
            if isinstance(reply, TrainingDone):
                if reply.run is None:
                    self._end()
                return reply
            if isinstance(reply, Refused):
                raise error_of(reply)
            if isinstance(reply, TrainingProgress):
                report(reply)
            elif worker.gone:
                return self._handle_death(worker)
            elif available_bytes() < HOST_FLOOR:
                self._end()
                return TrainingDone(run=None, message="the computer was about to run out of RAM")

    def _start(self) -> WorkerProcess:
        # Without the allocator settings that make trials reproducible, which would slow down training.
        self._worker = worker = WorkerProcess({}, entry="vram_cli.compare.worker", replies=REPLY)
        worker.send(REQUEST.dump_json(self._session))
        return worker

    def _handle_death(self, worker: WorkerProcess) -> TrainingDone:
        how, words = worker.how_it_ended(), worker.last_words
        if worker.was_killed:
            self._end()
            return TrainingDone(run=None, message=f"the training process {how}")
        if self._own_code and worker.left:
            raise ended_by_code(worker, self._own_code)
        raise ProbeError(f"the training process {how}", words)

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
