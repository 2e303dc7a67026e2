"""Trainings of one config on one device, in the worker process."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vram_cli.compare.messages import OpenTraining, RunTraining, TrainingDone, TrainingProgress
from vram_cli.compare.training_loop import TrainingLoop
from vram_cli.config import Config
from vram_cli.errors import VramError, WorkloadError
from vram_cli.probe.worker.lazy_dynamo import make_dynamo_lazy
from vram_cli.probe.worker.oom_errors import describe
from vram_cli.records import Outcome
from vram_cli.workload import check_code, open_data, set_matmul_precision


class TrainingWorker:
    """Trains a config any number of times, each time from new weights.

    Raises:
        ConfigError: The data has no real samples, or the config names code that cannot be used.
    """

    def __init__(self, config: Config, session: OpenTraining) -> None:
        check_code(config)
        if not config.train.compile:
            make_dynamo_lazy()
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._session = config, session
        self._data = open_data(config, download=session.download).indexed()
        self._device = torch.device(session.device)
        if self._device.type != "cpu":
            getattr(torch, self._device.type).set_device(self._device)

    def train(self, request: RunTraining, report: Callable[[TrainingProgress], None]) -> TrainingDone:
        """Run one training; `report` receives its progress.

        Raises:
            WorkloadError: The model, the data or the loss raised an error.
        """
        try:
            loop = TrainingLoop(self._config, self._session, request, self._data, self._device)
            return TrainingDone(run=loop.run(report))
        except VramError:
            raise
        except Exception as error:  # noqa: BLE001 - describe() classifies it
            failure = describe(error, self._device.type)
        if failure.outcome is Outcome.ERROR:
            raise WorkloadError(
                f"training with a batch of {request.batch_size:,} fails, but not for lack of memory: {failure.message}",
                "the traceback above comes from your model, data or loss; fix that first",
                traceback=failure.traceback,
            )
        return TrainingDone(run=None, message=failure.message)
