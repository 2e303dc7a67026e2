"""`vram compare` on a CUDA or ROCm device; run with `make gpu-test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workload.configs import HERE, config
from vram_cli.compare import CompareOptions, compare_batch_sizes

pytestmark = pytest.mark.silicon("kernels must learn something")


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16", "amp-bf16"])
def test_compare_on_the_gpu(tmp_path: Path, precision: str) -> None:
    settings = config(
        data={"factory": HERE + "Blobs"},
        train={"learning_rate": 0.1, "batch_size": 8},
        precision=precision,
        device={"name": "cuda"},
    )
    options = CompareOptions(batch_sizes=(8, "full"), epochs=10, repeats=2)
    comparison = compare_batch_sizes(settings, options, results=tmp_path / "results.jsonl")
    small, full = comparison.sizes
    assert comparison.run.device.type.startswith("cuda")
    assert small.runs == full.runs == 2
    assert small.accuracy is not None
    assert small.accuracy.mean > 0.9
    assert small.memory_check is not None
    assert small.memory_check.peak_bytes >= 2 * 2**20  # at least one segment of the caching allocator
    assert small.seconds_per_epoch is not None
    assert full.seconds_per_epoch is not None
    assert full.seconds_per_epoch.mean < small.seconds_per_epoch.mean
