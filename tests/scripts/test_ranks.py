"""Scripts that torchrun starts on several GPUs: predicted for the first rank, and real on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.scripts.conftest import T4, RunScript
from tests.scripts.test_scripts import WITH_N, trial_of
from vram_cli.records import Category, Detail, Measurement, ParallelInfo

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
