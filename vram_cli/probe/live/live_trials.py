"""Trials of a live training, in a fork of the user's process or in that process itself."""

from __future__ import annotations

import gc
from collections.abc import Callable

from vram_cli.config import Config
from vram_cli.probe.devices.malloc import make_malloc_reproducible
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.live.make_training import MakeTraining
from vram_cli.probe.live.trial import LiveTrial
from vram_cli.probe.messages import OpenSession, Ready, Request, RunTrial, TorchImported, TrialDone
from vram_cli.probe.worker.main import TrialService, read_config
from vram_cli.probe.worker.versions import versions
from vram_cli.records import Phase


class LiveTrials:
    """Runs trials of a training on a device.

    Args:
        make_training: the user's function.
        config: the search, and the device.
    """

    def __init__(self, make_training: MakeTraining, config: Config) -> None:
        self._make_training, self._steps = make_training, config.search.steps
        self._name = config.device.name
        self._monitor = open_monitor(self._name, config.device.memory_limit)

    def warm_up(self) -> None:
        """Run a step of two samples without a limit, whose errors occur again in the first trial.

        Modules and kernels that are loaded on first use stay in memory, and would count as memory of the training.
        """
        monitor = open_monitor(self._name, None)
        LiveTrial(self._make_training, monitor, lambda _: None, watches_growth=False).run_live(2, 1)

    @property
    def ready(self) -> Ready:
        """The device as it is now, and the versions."""
        return Ready(
            device=self._monitor.describe(),
            guard_bytes=self._monitor.guard_bytes,
            versions=versions() | self._monitor.versions(),
        )

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone:
        """Run a trial, and repeat it if the CUDA context grew during it, so that the limit was exceeded."""
        for _ in range(2):
            live_trial = LiveTrial(self._make_training, self._monitor, on_phase, trial.detail)
            measurement, _ = live_trial.run_live(trial.batch_size, self._steps)
            if live_trial.leaves_tensors or not (measurement.fits and self._monitor.exceeded_limit()):
                break
        # What the training closes over has been trained, so the next trial needs another fork.
        return TrialDone(measurement=measurement, poisoned=True)


class LiveService(TrialService):
    """Runs trials in a fork of the process that has the training.

    Args:
        make_training: the user's function.
    """

    def __init__(self, make_training: MakeTraining) -> None:
        super().__init__()
        self._make_training = make_training

    def handle(self, request: Request, send: Callable[[object], None]) -> object:
        """As `TrialService`, with torch imported already."""
        return TorchImported() if request.kind == "import_torch" else super().handle(request, send)

    def open(self, request: OpenSession) -> LiveTrials:
        """Return the trials, after a warm-up."""
        config = read_config(request.config, request.folder)
        if config.device.name == "cpu":
            make_malloc_reproducible()
        gc.freeze()  # the objects of the user's process: looking at them would copy their memory
        trials = LiveTrials(self._make_training, config)
        trials.warm_up()
        gc.freeze()
        return trials
