"""The parent's side of trainings in a child process. Imports no torch."""

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
            folder=folder_of(config),
            device=device,
            plan=plan,
            largest=largest,
        )
        self._own_code = config.user_code
        self._child: WorkerProcess | None = None

    def __enter__(self) -> TrainingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def train(self, task: RunTraining, tell: Callable[[TrainingProgress], None]) -> TrainingDone:
        """Run a training; where memory ran out, or the child was killed, there is no run, and a message says how.

        Raises:
            ConfigError: the data has no samples to choose from, or the config names code that cannot be used.
            WorkloadError: the model, its data or its loss raise, or end the process.
            ProbeError: the child ended in a way nobody foresaw.
        """
        child = self._child or self._start()
        child.send(REQUEST.dump_json(task))
        while True:
            reply = child.receive()
            if isinstance(reply, TrainingDone):
                if reply.run is None:
                    self._end()
                return reply
            if isinstance(reply, Refused):
                raise error_of(reply)
            if isinstance(reply, TrainingProgress):
                tell(reply)
            elif child.gone:
                return self._gone(child)
            elif available_bytes() < HOST_FLOOR:
                self._end()
                return TrainingDone(run=None, message="the computer was about to run out of RAM")

    def _start(self) -> WorkerProcess:
        # Without what makes memory steady from trial to trial: that would make training slow.
        self._child = child = WorkerProcess({}, entry="vram_cli.compare.worker", replies=REPLY)
        child.send(REQUEST.dump_json(self._course))
        return child

    def _gone(self, child: WorkerProcess) -> TrainingDone:
        how, words = child.how_it_ended(), child.last_words
        if child.was_killed:
            self._end()
            return TrainingDone(run=None, message=f"the process of the training {how}")
        if self._own_code and child.left:
            raise ended_by_code(child, self._own_code)
        raise ProbeError(f"the process of the training {how}", words)

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
