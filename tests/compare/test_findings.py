"""Findings never report a difference that chance explains, and theory only where it holds."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.findings import differ, findings, noise_exponent, t_quantile
from vram_cli.compare.records import BatchSizeSummary, ComparePlan, CurvePoint, MeanStd, MemoryCheck, NoisePoint
from vram_cli.compare.summary import mean_std, noise_scale, summarize

from .test_results_file import make_run

PLAN = ComparePlan(samples=1000, holdout=0.2, folds=1, epochs=2, lr_scaling="linear", warmup=0.0, seed=0)


def stats(mean: float, std: float | None, runs: int = 3) -> MeanStd:
    return MeanStd(mean=mean, std=std, runs=runs)


def size(batch_size: int, **fields: Any) -> BatchSizeSummary:
    return BatchSizeSummary(**{"batch_size": batch_size, "is_full": False, "steps_per_epoch": 100, "runs": 3, **fields})


def text_of(*sizes: BatchSizeSummary) -> str:
    return "\n".join(findings(sizes, PLAN))


# Student's t with 4 degrees of freedom has 2.776 at 95 %: two groups of three with equal deviations s differ if their
# means do by more than 2.776 * s * sqrt(2 / 3).
@pytest.mark.parametrize(("gap", "differs"), [(2.28, True), (2.25, False)])
def test_welch_matches_the_tables(gap: float, differs: bool) -> None:
    assert 2.776 * sqrt(2 / 3) == pytest.approx(2.267, abs=1e-3)
    assert differ(stats(10, 1.0), stats(10 + gap, 1.0)) is differs


STATS = st.builds(stats, st.floats(-10, 10), st.floats(0, 5), st.integers(2, 40))


# For 2.5 degrees of freedom numerical integration of the density gives 3.575; for 60 tables have 2.000.
@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (2.5, 3.575), (4, 2.776), (30, 2.042), (60, 2.0)])
def test_quantiles_are_interpolated(freedom: float, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, rel=0.02)


@given(STATS, STATS)
def test_differ_is_symmetric(one: MeanStd, other: MeanStd) -> None:
    assert differ(one, other) is differ(other, one)
    assert not differ(one, one)


def test_single_runs_suggest_repeats() -> None:
    assert differ(stats(1, None, 1), stats(2, None, 1)) is None
    text = text_of(
        size(1, accuracy=stats(0.9, None, 1), loss=stats(1, None, 1)),
        size(2, accuracy=stats(0.5, None, 1), loss=stats(2, None, 1)),
    )
    assert "single runs" in text
    assert "--repeats" in text


def test_difference_within_the_noise() -> None:
    text = text_of(
        size(32, accuracy=stats(0.93, 0.01), loss=stats(0.2, 0.01)),
        size(64, accuracy=stats(0.925, 0.01), loss=stats(0.2, 0.01)),
        size(512, accuracy=stats(0.70, 0.01), loss=stats(0.9, 0.01)),
    )
    assert "Batch size 32 has the best validation accuracy, 93.0 %; 64 matches it within the noise" in text
    assert "512 match" not in text


def test_significant_difference() -> None:
    text = text_of(
        size(32, accuracy=stats(0.93, 0.001), loss=stats(0.2, 0.01)),
        size(512, accuracy=stats(0.70, 0.001), loss=stats(0.9, 0.01)),
    )
    assert "by more than the noise (3 runs each" in text


def test_equal_speeds() -> None:
    slow, fast, much_faster = (
        size(n, samples_per_second=stats(speed, 20)) for n, speed in ((8, 600), (16, 610), (32, 900))
    )
    assert "about the same speed" in text_of(slow, fast)
    text = text_of(slow, fast, much_faster)
    assert "Batch size 32 is the fastest at 900 samples/s, and 8 the slowest at 600" in text
    noisy = size(64, samples_per_second=stats(77_000, 38_000))
    assert "Batch size 64 is the fastest" in text_of(slow, noisy)


def test_loss_decides_without_accuracy() -> None:
    text = text_of(size(32, loss=stats(0.5, 0.001)), size(64, loss=stats(0.2, 0.001)))
    assert "Batch size 64 has the best validation loss, 0.2" in text


@given(st.floats(-1.5, 0.5), st.floats(0.01, 100))
def test_exponent_of_a_power_law(exponent: float, scale: float) -> None:
    sizes = [size(n, loss_noise=stats(scale * n**exponent, None)) for n in (1, 8, 64, 1000)]
    assert noise_exponent(sizes) == pytest.approx(exponent, abs=1e-6)
    assert noise_exponent(sizes[:2]) is None


def test_theory_is_reported_only_if_it_holds() -> None:
    text = text_of(
        *(size(n, loss_noise=stats(noise, None)) for n, noise in ((1, 0.8), (16, 0.21), (64, 0.1), (256, 0.1)))
    )
    assert "from batch size 1 to 64, as theory predicts (fitted: B^-0.50)" in text
    assert (
        "At batch size 256, the noise of the training loss is 2.0 times the 1/sqrt(B) prediction from batch size 1:"
        in text
    )
    text = text_of(*(size(n, loss_noise=stats(1.0, None)) for n in (1, 16)))
    assert "as theory predicts" not in text
    assert "At batch size 16, the noise of the training loss is 4.0 times" in text


def test_critical_batch_size_uses_the_best_sizes() -> None:
    good = {"loss": stats(0.2, 0.01), "noise_scale": 480.0}
    text = text_of(
        size(32, accuracy=stats(0.93, 0.001), **good),
        size(64, accuracy=stats(0.93, 0.001), **good),
        size(512, accuracy=stats(0.5, 0.001), loss=stats(5, 0.01), noise_scale=3.0),
    )
    assert "critical batch size of about 480," in text


def test_increased_loss() -> None:
    assert "higher training loss than at the start in 2 of 3 runs" in text_of(size(800, loss_increased=2))
    rising = make_run(curve=(CurvePoint(samples=80, loss=0.5), CurvePoint(samples=160, loss=0.6)))
    assert summarize(8, PLAN, 1, None, [rising, make_run(repeat=1)]).loss_increased == 1


def test_micro_batches_are_suggested_for_a_size_that_does_not_fit() -> None:
    check = MemoryCheck(
        batch_size=800, fits=False, peak_bytes=1, message="out of memory", micro_batch_size=200, micro_batches=4
    )
    assert "--accumulate trains it as 4 micro-batches of 200" in text_of(size(800, memory_check=check, runs=0))
    assert "it was trained as 4 micro-batches of 200" in text_of(size(800, memory_check=check, micro_batches=4))


def test_divergence_and_few_steps() -> None:
    text = text_of(size(800, steps_per_epoch=1, diverged=3, learning_rate=6.4))
    assert "diverged in 3 of 3 runs at a learning rate of 6.4; try --warmup 1" in text
    assert "took only 2 steps" in text


def test_summary_excludes_diverged_runs() -> None:
    runs = [
        make_run(accuracy=0.8),
        make_run(repeat=1, accuracy=0.9),
        make_run(repeat=2, accuracy=None, loss=None, diverged_at=3),
    ]
    summary = summarize(8, PLAN, 1, None, runs)
    assert (summary.runs, summary.diverged) == (3, 1)
    assert summary.accuracy is not None
    assert summary.accuracy.mean == pytest.approx(0.85)
    assert summary.accuracy.std == pytest.approx(0.0707, abs=1e-4)
    assert summary.samples_per_second is not None
    assert summary.samples_per_second.mean == pytest.approx(160 / 1.5)


def test_mean_std_of_few_values() -> None:
    assert mean_std([2.0, None]) == stats(2.0, None, 1)
    assert mean_std([None]) is None


def test_noise_scale_needs_a_significant_signal() -> None:
    points = [NoisePoint(samples=100, signal=signal, variance=variance) for signal, variance in ((1, 90), (3, 110))]
    assert noise_scale(points) == pytest.approx(50)
    hidden = [NoisePoint(samples=100, signal=signal, variance=90) for signal in (-1.0, 1.5, 0.2)]
    assert noise_scale(hidden) is None
    assert noise_scale([]) is None
    assert noise_scale([NoisePoint(samples=1, signal=0.0, variance=1.0)]) is None
