"""What the child process serves: real trials on a device that is here, or predictions for one that is not."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil
import torch

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.fake_tensors import FakeTensorProbe
from vram_cli.hardware.calibration_store import load_calibration
from vram_cli.hardware.gpus import find_gpu
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.devices.process_memory import ENFORCED
from vram_cli.probe.messages import Ready, RunTrial, TrialDone
from vram_cli.probe.worker.memory_trial import Trial
from vram_cli.probe.worker.timing_trial import TimedTrials
from vram_cli.probe.worker.versions import versions
from vram_cli.records import Phase
from vram_cli.workload import check_code, open_data, set_matmul_precision

DEFAULT_GPU = "t4"
"""What is predicted for where there is no GPU and none is named: the card of a free notebook."""

_UNKNOWN_PLANS = (
    "cudnn.benchmark is on: which kernels cuDNN will find fastest cannot be known without the card. Their workspaces "
    "are left out, as is what it takes for a moment in the first step to try them."
)


class Trials(Protocol):
    """Answers for batch sizes, one after the other."""

    ready: Ready

    def run(self, task: RunTrial, enter: Callable[[Phase], None]) -> TrialDone:
        """Try one batch size; `enter` is told of each phase as it begins."""
        ...


def open_trials(config: Config, *, download: bool, calibrated: bool = True, timed: bool = False) -> Trials:
    """Return real trials, or predictions where the config names a card or there is no GPU to take.

    Predictions take what is kept of the card's calibration, unless `calibrated` is false. `timed` trials are real ones
    for the clock alone.

    Raises:
        ConfigError: the data or the card that the config names cannot be had, or its calibration cannot be read.
        MachineError: there is no such device.
    """
    check_code(config)
    if timed:
        return TimedTrials(config, download=download)
    if config.device.gpu is not None:
        return PredictedTrials(config, config.device.gpu, calibrated=calibrated)
    if config.device.name == "auto" and not torch.cuda.is_available():
        why = (
            f"There is no GPU here: this is a prediction for a {DEFAULT_GPU.upper()}. Another card: --gpu NAME, from "
            "`vram gpus`. Real steps on this computer: --device cpu."
        )
        return PredictedTrials(config, DEFAULT_GPU, why, calibrated=calibrated)
    return RealTrials(config, download=download)


class RealTrials:
    """Real steps, with a meter of the device."""

    def __init__(self, config: Config, *, download: bool) -> None:
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._data = config, open_data(config, download=download)
        self._meter = open_monitor(config.device.name, config.device.memory_limit)
        if config.train.compile and self._meter.needs_ledger:
            raise ConfigError(
                "train.compile: on a CPU each step is watched, and compiled code cannot be",
                "leave it out, or run on a GPU",
            )
        # A small trial on the whole device first: modules imported and kernels loaded at their first use stay, and
        # would be taken for the training's own memory. Whatever it meets, the first real trial meets again and tells.
        Trial(open_monitor(config.device.name, None), lambda _: None, explain=False).run(config, self._data, 2, 2)
        # What is here by now stays: a collection after each trial need not look at it, which takes 0.2 s.
        gc.freeze()
        device = self._meter.describe()
        guarded = self._meter.device.type == "cpu" and not ENFORCED
        self.ready = Ready(
            device=device,
            outside_bytes=self._meter.capacity()[1],
            guard_bytes=psutil.Process().memory_info().rss + device.capacity_bytes if guarded else None,
            data=self._data.info,
            versions=versions() | self._meter.versions(),
        )

    def run(self, task: RunTrial, enter: Callable[[Phase], None]) -> TrialDone:
        """Run a trial; a second time where the context grew on the way and the budget was overrun."""
        for _ in range(2):
            trial = Trial(self._meter, enter, explain=task.explain, detail=task.detail)
            measurement, poisoned = trial.run(self._config, self._data, task.batch_size, self._config.search.steps)
            if not (measurement.fits and self._meter.overran()):
                break
        return TrialDone(measurement=measurement, poisoned=poisoned)


class PredictedTrials:
    """Fake steps for a card of the catalogue."""

    def __init__(self, config: Config, gpu: str, why: str = "", *, calibrated: bool = True) -> None:
        device, card = config.device, find_gpu(gpu)
        self._probe = FakeTensorProbe(
            config,
            card,
            calibration=load_calibration(card) if calibrated else None,
            expandable_segments=device.expandable_segments,
            overhead_bytes=device.overhead,
            capacity_bytes=device.memory_limit,
        )
        self.ready = Ready(
            device=self._probe.device,
            outside_bytes=self._probe.outside_bytes,
            guard_bytes=None,
            data=self._probe.data,
            versions=versions(),
            remark=" ".join(filter(None, (why, _UNKNOWN_PLANS if device.cudnn_benchmark else ""))),
        )

    def run(self, task: RunTrial, enter: Callable[[Phase], None]) -> TrialDone:  # noqa: ARG002 - a prediction cannot be killed
        """Predict a size; one that is to be explained is simulated itself, not read off a line."""
        probe, size = self._probe, task.batch_size
        if task.explain:
            measurement = probe.measure_afresh(size, explain=True, detail=task.detail)
        else:
            measurement = probe.measure(size)
        if task.snapshot is not None:
            probe.save_snapshot(size, Path(task.snapshot))
        return TrialDone(measurement=measurement, poisoned=False)
