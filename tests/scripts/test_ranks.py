"""Scripts that torchrun starts on several GPUs: predicted for the first rank, and real on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.scripts.conftest import T4, RunScript
from tests.scripts.test_scripts import HEAD, WITH_N, trial_of
from vram_cli.records import Category, Detail, Measurement, Outcome, ParallelInfo

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
EIGHT = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "8")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_rank_takes_the_bytes_of_its_config(
    on_t4: RunScript, measured_config: Callable[..., Measurement], strategy: str
) -> None:
    run = on_t4("several_ranks.py", "--strategy", strategy, *WITH_N, launcher=EIGHT, sizes=(64,), detail=Detail.ROWS)
    script = trial_of(run)
    config = measured_config("plain.yaml", T4, 64, f"parallel.strategy={strategy}", "parallel.ranks=8")
    assert script.breakdown is not None
    assert config.breakdown is not None
    rows = [{row.category: row.bytes for row in breakdown.rows} for breakdown in (script.breakdown, config.breakdown)]
    assert rows[0] == rows[1]
    shared = Category.GRADIENT_BUCKETS if strategy == "ddp" else Category.GATHERED_PARAMETERS
    assert rows[0][shared] > 1024**2
    assert run.ready is not None
    assert isinstance(run.ready.parallel, ParallelInfo)
    assert (run.ready.parallel.ranks, run.ready.parallel.strategy) == (8, None)


ON_GLOO = (
    HEAD
    + """
import torch.distributed as dist
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(model)
sampler = torch.utils.data.DistributedSampler(data)
for x, y in DataLoader(data, batch_size=n, sampler=sampler):
    loss = train(x, y)
    if dist.get_rank() == 1:
        held = torch.ones(n, 2**20)
    dist.all_reduce(loss)
"""
)


def test_a_rank_that_runs_out_of_memory_decides_for_all(on_cpu: RunScript) -> None:
    run = on_cpu(ON_GLOO, "{n}", launcher=TWO, sizes=(128,))
    trial = trial_of(run)
    assert (trial.outcome, trial.rank) == (Outcome.OUT_OF_MEMORY, 1)
    assert "held = torch.ones(n, 2**20)" in trial.traceback
    assert [(each.rank, each.outcome) for each in trial.ranks] == [(0, None), (1, Outcome.OUT_OF_MEMORY)]
    assert run.ready is not None
    assert run.ready.parallel is not None
    assert (run.ready.parallel.ranks, run.ready.parallel.rank) == (2, 1), "rank 1 had less room in the rehearsal"
    assert run.children == []
