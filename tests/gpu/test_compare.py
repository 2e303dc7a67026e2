"""Trainings of `vram compare` on a CUDA (or ROCm) device. Run with `make gpu-test`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workload.configs import HERE, config
from vram_cli.compare import CompareOptions, compare_batch_sizes

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]


@pytest.mark.parametrize("precision", ["fp32", "amp-fp16", "amp-bf16"])
def test_sizes_are_trained_and_measured_on_the_card(tmp_path: Path, precision: str) -> None:
    settings = config(
        data={"factory": HERE + "Blobs"},
        train={"learning_rate": 0.1, "batch_size": 8},
        precision=precision,
        device={"name": "cuda"},
    )
    asked = CompareOptions(batch_sizes=(8, "full"), epochs=10, repeats=2)
    found = compare_batch_sizes(settings, asked, results=tmp_path / "kept.jsonl")
    small, full = found.sizes
    assert found.run.device.type.startswith("cuda")
    assert small.runs == full.runs == 2
    assert small.accuracy is not None
    assert small.accuracy.mean > 0.9
    assert small.fit is not None
    assert small.fit.peak_bytes >= 2 * 2**20  # a segment of the caching allocator, at least
    assert small.seconds_per_epoch is not None
    assert full.seconds_per_epoch is not None
    assert full.seconds_per_epoch.mean < small.seconds_per_epoch.mean
