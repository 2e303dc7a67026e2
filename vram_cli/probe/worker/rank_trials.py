"""Steps of one rank on a device of this machine, together with the other ranks, whose processes exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.messages import RankPlace, Ready, RunTrial, TrialDone, WarmUpLeft
from vram_cli.probe.worker.ranks import join_group
from vram_cli.probe.worker.trials import StepTrials
from vram_cli.records import ParallelInfo, Phase
from vram_cli.workload import open_data
from vram_cli.workload.parallel import groups


class RankTrials:
    """Runs the trials of one rank: every call waits for the same call in all other ranks.

    Args:
        config: the training; its device is that of all ranks, without a number.
        place: the place of this process among them.
        download: whether torchvision may download missing data files.
        warm: whether a small trial of the training, which the parent asks for, may run before the first one.

    Raises:
        ConfigError: the training cannot be measured in several ranks.
        MachineError: the rank's device does not exist.
    """

    def __init__(self, config: Config, place: RankPlace, *, download: bool, warm: bool) -> None:
        if config.parallel is None:
            raise ConfigError("parallel: it is missing, and several ranks were started")
        name = device_of_rank(config.device.name, place.local_rank)
        open_rank = partial(open_monitor, name, cpu_capacity=place.cpu_capacity)
        self._trials = StepTrials(config, open_data(config, download=download), open_rank, in_group=True)
        monitor = self._trials.monitor
        before = monitor.capacity()[1]
        join_group(place, monitor.device, config.search.trial_timeout)
        _talk(config, monitor.device)
        monitor.communication_bytes = max(monitor.capacity()[1] - before, 0)
        if not warm:
            self._trials.warm_up_with_preset()
        info = ParallelInfo(
            strategy=config.parallel.strategy,
            ranks=place.ranks,
            micro_batches=config.micro_batches_per_step,
            rank=place.rank,
            communication_bytes=monitor.communication_bytes,
        )
        self.ready: Ready = replace(self._trials.ready, parallel=info)

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone | WarmUpLeft:
        """Run a batch size, as all other ranks do."""
        return self._trials.run(trial, on_phase)


def device_of_rank(name: str, local_rank: int) -> str:
    """Return the device of a rank: every rank has a GPU of its own, or all share the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return name if name == "cpu" else f"{name}:{local_rank}"


def _talk(config: Config, device: torch.device) -> None:
    """Let every group exchange a number, since a library for communication takes its memory with the first one."""
    for group in groups(config, device):
        dist.all_reduce(torch.zeros(1, device=device), group=group)
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)
