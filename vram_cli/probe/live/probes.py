"""The probes of live trainings."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from vram_cli.config import Config
from vram_cli.probe.client import WorkerProbe
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.live.live_trials import LiveService, LiveTrials
from vram_cli.probe.live.make_training import MakeTraining, config_values
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Detail, Measurement, RunInfo

_IN_THIS_PROCESS = (
    "Trials ran in this process, because it has used the GPU: tensors that are alive in it count as they are, a trial "
    "that hangs is not stopped, and the objects that the training uses were trained."
)


class ForkProbe(WorkerProbe):
    """Runs each trial in a fork of this process, which leaves its objects as they are.

    Args:
        make_training: the user's function.
        config: the search, and the device by its own name.
        deadline: `time.monotonic()` value at which a running trial is stopped.
    """

    def __init__(self, make_training: MakeTraining, config: Config, *, deadline: float | None = None) -> None:
        super().__init__(config, deadline=deadline)
        self._make_training = make_training

    @property
    def info(self) -> RunInfo:
        """The device, the function and the versions."""
        return replace(super().info, config=config_values(self._config))

    def _new_worker(self) -> WorkerProcess:
        return ForkedWorker(self._environment, LiveService(self._make_training))


class InProcessProbe:
    """Runs trials in this process, and restores the state of random numbers after each.

    Args:
        make_training: the user's function.
        config: the search, and the device by its own name.
    """

    def __init__(self, make_training: MakeTraining, config: Config) -> None:
        self._trials = LiveTrials(make_training, config)
        ready, source = self._trials.ready, config.source
        self.info = RunInfo(
            config_name=source.name,
            config=config_values(config),
            overrides=source.overrides,
            device=ready.device,
            data=None,
            versions=ready.versions,
            remark=_IN_THIS_PROCESS,
        )
        with _random_state_kept():
            self._trials.warm_up()

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size."""
        with _random_state_kept():
            return self._trials.run(RunTrial(batch_size=batch_size, detail=detail), lambda _: None).measurement

    confirm = measure  # there is no other process


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state: Any = numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)
