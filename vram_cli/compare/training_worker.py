"""The child's side of `vram compare`: trainings of one config on one device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.training_loop import TrainingLoop
from vram_cli.config import Config
from vram_cli.errors import VramError, WorkloadError
from vram_cli.probe.worker.oom_errors import describe
from vram_cli.records import Outcome
from vram_cli.workload import check_code, open_data, set_matmul_precision


class TrainingWorker:
    """Trains a config again and again, each time from fresh weights.

    Raises:
        ConfigError: the data has no samples to choose from, or the config names code that cannot be used.
    """

    def __init__(self, config: Config, course: OpenTraining) -> None:
        check_code(config)
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._course = config, course
        self._data = open_data(config, download=course.download).indexed()
        self._device = torch.device(course.device)
        if self._device.type != "cpu":
            getattr(torch, self._device.type).set_device(self._device)

    def train(self, task: RunTraining, tell: Callable[[TrainingProgress], None]) -> TrainingDone:
        """Run a training and say what came of it; `tell` hears of its progress.

        Raises:
            WorkloadError: the model, its data or its loss raise.
        """
        try:
            return TrainingDone(run=TrainingLoop(self._config, self._course, task, self._data, self._device).run(tell))
        except VramError:
            raise
        except Exception as error:  # noqa: BLE001 - describe() says what it means
            failure = describe(error, self._device.type)
        if failure.outcome is Outcome.ERROR:
            raise WorkloadError(
                f"training with a batch of {task.batch_size:,} fails, and not for memory: {failure.message}",
                "the traceback above is from the model, its data or its loss; mend that first",
                traceback=failure.traceback,
            )
        return TrainingDone(run=None, message=failure.message)
