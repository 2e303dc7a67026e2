"""Two ranks as on GPUs of this machine, each on a virtual GPU of its own: run by test_ranks.py with it preloaded.

Prints one JSON object. Workers are forks of this process, which has imported PyTorch and not used CUDA.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch._dynamo  # noqa: F401 - each fork would import these anew
import torchvision  # noqa: F401

import vram_cli.probe.worker.rank_trials  # noqa: F401
from tests.virtual_gpu.rank_trials import config
from vram_cli.probe.live.forked_worker import ForkedWorker
from vram_cli.probe.messages import RankPlace
from vram_cli.probe.ranks.local_ranks import LocalRanks
from vram_cli.probe.ranks.rank_probe import RankProbe
from vram_cli.probe.worker.main import TrialService
from vram_cli.probe.worker_process import WorkerProcess
from vram_cli.records import Detail

TRAININGS = {
    "ddp": "parallel={ranks: 2, memory_limits: [700MiB, 600MiB]}",
    "fsdp2": "parallel={strategy: fsdp2, ranks: 2, memory_limits: [600MiB, 600MiB]}",
}
SMALL, BETWEEN, LARGE = 64, 6995, 30_000
"""Sizes that run; that only the larger limit of DDP would hold; and that neither holds."""


class OnOneGpu(LocalRanks):
    """Ranks that all take the first GPU: a process has no other virtual one."""

    def places(self) -> list[RankPlace]:
        """Return their places."""
        return [replace(place, local_rank=0) for place in super().places()]


def fork(environment: Mapping[str, str]) -> WorkerProcess:
    return ForkedWorker(environment, TrialService())


def measured(parallel: str) -> dict[str, Any]:
    with RankProbe(config(parallel, "device={name: cuda}"), ranks=OnOneGpu(2, fork)) as probe:
        trials = {
            "small": probe.measure(SMALL, Detail.ROWS),
            "between": probe.measure(BETWEEN),
            "large": probe.measure(LARGE),
            "confirmed": probe.confirm(SMALL),
        }
        capacity_bytes = probe.info.device.capacity_bytes
    return {name: asdict(trial) for name, trial in trials.items()} | {"capacity_bytes": capacity_bytes}


def main() -> None:
    sys.stdout.write(json.dumps({name: measured(parallel) for name, parallel in TRAININGS.items()}) + "\n")


if __name__ == "__main__":
    main()
