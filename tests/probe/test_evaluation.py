"""The largest batch of an evaluation, found by real trials in a worker process."""

from __future__ import annotations

import sys

import pytest

from tests.probe.conftest import small_config
from vram_cli import find_batch
from vram_cli.probe import WorkerProbe
from vram_cli.records import Detail, Phase

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux enforces RLIMIT_DATA")

CNN = ("model={name: cnn}", "device.memory_limit=32MiB", "search.limit_to_dataset=false", "search.tolerance=0.2")


def test_evaluation_fits_larger_batches_than_training() -> None:
    training, evaluation = (find_batch(small_config(*CNN, f"mode={mode}")) for mode in ("train", "eval"))
    assert training.max_batch_size is not None
    assert evaluation.max_batch_size is not None
    assert evaluation.max_batch_size > 1.5 * training.max_batch_size
    assert evaluation.breakdown is not None


def test_evaluation_ignores_keys_about_training_alone() -> None:
    ignored = (
        "step=tests.workload.usercode:no_such_step",
        "optimizer.factory=tests.workload.usercode:NoSuchOptimizer",
        "train.activation_checkpointing=full",
    )
    with WorkerProbe(small_config("mode=eval", *ignored)) as probe:
        measurement = probe.measure(64)
        assert measurement.fits
        assert [peak.phase for peak in measurement.peaks] == [Phase.BUILD, Phase.BATCH, Phase.FORWARD]
        assert measurement.steps == 3
        assert probe.measure(64, Detail.TIMES).timed_seconds
