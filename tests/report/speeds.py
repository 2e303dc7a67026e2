"""A search whose sizes were timed as well, for the tests of how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vram_cli.records import FindBatchResult, Throughput, ThroughputPoint
from vram_cli.search import pace_of, throughput_of

from .examples import MEMORY, ran

CURVE = {
    1: 180, 2: 352, 4: 690, 8: 1_330, 16: 2_500, 32: 4_600, 64: 7_800, 128: 9_700, 256: 10_900, 512: 11_800,
    1024: 12_100, 1456: 11_900, 1536: 12_300,
}  # fmt: skip
"""Samples per second of each size."""


def pace(size: int, speed: float) -> ThroughputPoint:
    """Return a size whose steps take up to 3 % less or more than they should; of a small one there are more of them."""
    steps = 20 if size > 256 else 100
    return pace_of(size, 1, [size / speed * (0.97 + 0.06 * step / (steps - 1)) for step in range(steps)])


def throughput(curve: Mapping[int, float], sizes: int | None = None) -> Throughput:
    found = throughput_of([pace(size, speed) for size, speed in curve.items()], sizes or len(curve))
    assert found is not None
    return found


WANTED = {**MEMORY.run.config, "search": {"multiple_of": 8, "margin": 0.05, "objective": "throughput"}}
TIMED: FindBatchResult = replace(
    MEMORY,
    run=replace(MEMORY.run, config=WANTED, overrides=("search.objective=throughput",)),
    trials=(
        *MEMORY.trials,
        *(ran(size) for size in CURVE if size not in {trial.batch_size for trial in MEMORY.trials}),
    ),
    throughput=throughput(CURVE),
)
CUT_SHORT: FindBatchResult = replace(
    TIMED, interrupted=True, throughput=throughput({size: CURVE[size] for size in (1, 2, 4)}, len(CURVE))
)
