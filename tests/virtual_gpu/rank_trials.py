"""Ranks of DDP and FSDP2, predicted with the virtual GPU preloaded: run by test_ranks.py.

Prints one JSON object with the measurements of each training below. They run in one process, as those of `vram advise`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from vram_cli.config import Config, load_config
from vram_cli.probe.messages import RunTrial
from vram_cli.probe.worker import trials
from vram_cli.records import Detail, ParallelInfo

SIZE = 64
FSDP2 = "strategy: fsdp2"
TRAININGS = {
    "one": ("parallel=null",),
    "ddp": ("parallel={ranks: 8}",),
    "views": ("parallel={ranks: 8, gradient_as_bucket_view: true}",),
    "static": ("parallel={ranks: 8, static_graph: true}",),
    "accumulated": ("parallel={ranks: 8}", "train.gradient_accumulation_steps=4"),
    "zero": ("parallel={ranks: 3, zero_redundancy_optimizer: true}",),
    "fsdp2": (f"parallel={{{FSDP2}, ranks: 8}}",),
    "1024": (f"parallel={{{FSDP2}, ranks: 1024}}",),
    "root": (f"parallel={{{FSDP2}, ranks: 8, modules: none}}",),
    "kept": (f"parallel={{{FSDP2}, ranks: 8, reshard_after_forward: false}}",),
    "hsdp": (f"parallel={{{FSDP2}, ranks: 8, replicas: 2}}",),
    "mixed": (
        f"parallel={{{FSDP2}, ranks: 8, param_dtype: bfloat16, reduce_dtype: float32}}",
        "train.clip_grad_norm=1",
    ),
    "scaled": (f"parallel={{{FSDP2}, ranks: 8}}", "precision=amp-fp16"),
    "checkpointed": (f"parallel={{{FSDP2}, ranks: 8}}", "train.activation_checkpointing=full"),
    "eval": (f"parallel={{{FSDP2}, ranks: 8}}", "mode=eval"),
    "eval of ddp": ("parallel={ranks: 8}", "mode=eval"),
}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, inputs: Any) -> Any:
        return inputs + self.narrow(self.wide(inputs).relu())


def build(width: int = 510, blocks: int = 4) -> nn.Module:
    """Return a model with repeated blocks; its width cannot be divided by 4 or 8 ranks."""
    layers = nn.Sequential(*(Block(width) for _ in range(blocks)))
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, width), layers, nn.Linear(width, 7))


def config(*overrides: str) -> Config:
    basic = ("model={factory: 'tests.virtual_gpu.rank_trials:build'}", "optimizer={name: adam}", "device.gpu=a100-80gb")
    data = "data={inputs: {x: {shape: [3, 8, 8]}}, targets: {shape: [], dtype: int64, high: 7}}"
    return load_config("mlp_mnist.yaml", [*basic, data, *overrides])


WARMED_UP = ("ddp", "fsdp2")
"""Trainings that run a small trial first: each trial waits for a thread of NCCL's group, which looks every 100 ms."""


def measured(*overrides: str, warm: bool = False) -> dict[str, Any]:
    opened = trials.open_trials(config(*overrides), download=False, calibrated=False, virtual=True, warm=warm)
    done = opened.run(RunTrial(batch_size=SIZE, detail=Detail.MODULES), lambda _: None)
    again = opened.run(RunTrial(batch_size=SIZE), lambda _: None)
    assert isinstance(done, trials.TrialDone), "tensors of the warm-up are left"
    assert isinstance(again, trials.TrialDone)
    first, second = done.measurement, again.measurement
    parallel: ParallelInfo | None = opened.ready.parallel
    return {
        "outcome": first.outcome.value,
        "message": first.message,
        "poisoned": done.poisoned or again.poisoned,
        "allocated": first.peak_allocated_bytes,
        "again": second.peak_allocated_bytes,
        "rank": parallel.rank if parallel else None,
        "rows": {row.category.value: row.bytes for row in first.breakdown.rows} if first.breakdown else {},
        "modules": [share.path for share in first.breakdown.modules] if first.breakdown else [],
    }


@contextmanager
def asked(rank: int) -> Iterator[None]:
    chosen = trials.fullest_rank
    trials.fullest_rank = lambda *_: rank
    try:
        yield
    finally:
        trials.fullest_rank = chosen


def of_each_rank(ranks: int, *overrides: str) -> list[int]:
    """Return the peak of each rank."""
    peaks = []
    for rank in range(ranks):
        with asked(rank):
            opened = trials.open_trials(config(*overrides), download=False, calibrated=False, virtual=True, warm=False)
            done = opened.run(RunTrial(batch_size=SIZE), lambda _: None)
            assert isinstance(done, trials.TrialDone)
            peaks.append(done.measurement.peak_allocated_bytes)
    return peaks


def main() -> None:
    found: dict[str, Any] = {
        name: measured(*overrides, warm=name in WARMED_UP) for name, overrides in TRAININGS.items()
    }
    found["ranks of zero"] = of_each_rank(3, *TRAININGS["zero"])
    found["ranks of fsdp2"] = of_each_rank(4, f"parallel={{{FSDP2}, ranks: 4}}")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
