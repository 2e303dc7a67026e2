"""What figures are said to show: never a difference that chance explains, and theory only where it holds."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.findings import _quantile, differ, findings, noise_exponent
from vram_cli.compare.records import BatchSizeSummary, ComparePlan, CurvePoint, MeanStd, MemoryCheck, NoisePoint
from vram_cli.compare.summary import noise_scale, size_answer, spread

from .test_results_file import run

PLAN = ComparePlan(samples=1000, holdout=0.2, folds=1, epochs=2, scaling="linear", warmup=0.0, seed=0)


def around(mean: float, deviation: float | None, runs: int = 3) -> MeanStd:
    return MeanStd(mean=mean, deviation=deviation, runs=runs)


def size(batch_size: int, **facts: Any) -> BatchSizeSummary:
    return BatchSizeSummary(**{"batch_size": batch_size, "is_full": False, "steps_per_epoch": 100, "runs": 3, **facts})


def told(*sizes: BatchSizeSummary) -> str:
    return "\n".join(findings(sizes, PLAN))


# Student's t with 4 degrees of freedom has 2.776 at 95 %: two groups of three with equal deviations s differ where the
# means do by more than 2.776 * s * sqrt(2 / 3).
@pytest.mark.parametrize(("gap", "verdict"), [(2.28, True), (2.25, False)])
def test_welchs_test_is_that_of_the_tables(gap: float, verdict: bool) -> None:
    assert 2.776 * sqrt(2 / 3) == pytest.approx(2.267, abs=1e-3)
    assert differ(around(10, 1.0), around(10 + gap, 1.0)) is verdict


SPREAD = st.builds(around, st.floats(-10, 10), st.floats(0, 5), st.integers(2, 40))


# For 2.5 degrees of freedom numerical integration of the density gives 3.575; for 60 tables have 2.000.
@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (2.5, 3.575), (4, 2.776), (30, 2.042), (60, 2.0)])
def test_quantiles_between_those_of_the_table_are_near_the_true_ones(freedom: float, expected: float) -> None:
    assert _quantile(freedom) == pytest.approx(expected, rel=0.02)


@given(SPREAD, SPREAD)
def test_a_difference_is_one_from_both_sides(one: MeanStd, other: MeanStd) -> None:
    assert differ(one, other) is differ(other, one)
    assert not differ(one, one)


def test_single_runs_cannot_be_told_apart() -> None:
    assert differ(around(1, None, 1), around(2, None, 1)) is None
    words = told(
        size(1, accuracy=around(0.9, None, 1), loss=around(1, None, 1)),
        size(2, accuracy=around(0.5, None, 1), loss=around(2, None, 1)),
    )
    assert "single runs" in words
    assert "--repeats" in words


def test_a_difference_within_the_noise_is_called_that() -> None:
    words = told(
        size(32, accuracy=around(0.93, 0.01), loss=around(0.2, 0.01)),
        size(64, accuracy=around(0.925, 0.01), loss=around(0.2, 0.01)),
        size(512, accuracy=around(0.70, 0.01), loss=around(0.9, 0.01)),
    )
    assert "Batch size 32 has the best validation, an accuracy of 93.0 %; 64 is within the noise" in words
    assert "512 is within" not in words


def test_a_clear_difference_is_called_that() -> None:
    words = told(
        size(32, accuracy=around(0.93, 0.001), loss=around(0.2, 0.01)),
        size(512, accuracy=around(0.70, 0.001), loss=around(0.9, 0.01)),
    )
    assert "by more than the noise of 3 runs" in words


def test_speeds_that_chance_explains_are_called_equal() -> None:
    slow, fast, much_faster = (
        size(n, images_per_second=around(speed, 20)) for n, speed in ((8, 600), (16, 610), (32, 900))
    )
    assert "about equally fast" in told(slow, fast)
    assert "Batch size 32 is the fastest, 900 samples/s; 8 is the slowest, with 600" in told(slow, fast, much_faster)
    shaky = size(64, images_per_second=around(77_000, 38_000))
    assert "Batch size 64 is the fastest" in told(slow, shaky)


def test_without_classes_the_loss_decides() -> None:
    words = told(size(32, loss=around(0.5, 0.001)), size(64, loss=around(0.2, 0.001)))
    assert "Batch size 64 has the best validation, a loss of 0.2" in words


@given(st.floats(-1.5, 0.5), st.floats(0.01, 100))
def test_the_exponent_of_a_power_law_is_found(exponent: float, scale: float) -> None:
    sizes = [size(n, loss_noise=around(scale * n**exponent, None)) for n in (1, 8, 64, 1000)]
    assert noise_exponent(sizes) == pytest.approx(exponent, abs=1e-6)
    assert noise_exponent(sizes[:2]) is None


def test_theory_is_said_to_hold_only_where_it_does() -> None:
    words = told(
        *(size(n, loss_noise=around(noise, None)) for n, noise in ((1, 0.8), (16, 0.21), (64, 0.1), (256, 0.1)))
    )
    assert "as theory has it, from batch size 1 to 64 (fitted: B^-0.50)" in words
    assert "At batch size 256 that noise is 2.0 times what 1/sqrt(B) makes of the noise at 1" in words
    alone = told(*(size(n, loss_noise=around(1.0, None)) for n in (1, 16)))
    assert "as theory has it" not in alone
    assert "At batch size 16 that noise is 4.0 times" in alone


def test_the_critical_batch_size_is_of_sizes_that_learned() -> None:
    good = {"loss": around(0.2, 0.01), "noise_scale": 480.0}
    words = told(
        size(32, accuracy=around(0.93, 0.001), **good),
        size(64, accuracy=around(0.93, 0.001), **good),
        size(512, accuracy=around(0.5, 0.001), loss=around(5, 0.01), noise_scale=3.0),
    )
    assert "implies is about 480," in words


def test_a_loss_that_rose_is_told() -> None:
    assert "ended above the loss that it began with in 2 of 3 runs" in told(size(800, rose=2))
    up = run(curve=(CurvePoint(images=80, loss=0.5), CurvePoint(images=160, loss=0.6)))
    assert size_answer(8, PLAN, 1, None, [up, run(repeat=1)]).rose == 1


def test_a_size_that_does_not_fit_is_offered_in_parts() -> None:
    fit = MemoryCheck(batch_size=800, fits=False, peak_bytes=1, message="out of memory", part=200, parts=4)
    assert "--accumulate trains it in 4 parts of 200" in told(size(800, fit=fit, runs=0))
    assert "it was trained in 4 parts of 200" in told(size(800, fit=fit, parts=4))


def test_divergence_and_few_updates_are_told() -> None:
    words = told(size(800, steps_per_epoch=1, diverged=3, learning_rate=6.4))
    assert "diverged in 3 of 3 runs at a learning rate of 6.4; try --warmup 1" in words
    assert "took 2 steps in all" in words


def test_diverged_runs_are_counted_and_left_out_of_the_figures() -> None:
    runs = [run(accuracy=0.8), run(repeat=1, accuracy=0.9), run(repeat=2, accuracy=None, loss=None, diverged_at=3)]
    answer = size_answer(8, PLAN, 1, None, runs)
    assert (answer.runs, answer.diverged) == (3, 1)
    assert answer.accuracy is not None
    assert answer.accuracy.mean == pytest.approx(0.85)
    assert answer.accuracy.deviation == pytest.approx(0.0707, abs=1e-4)
    assert answer.images_per_second is not None
    assert answer.images_per_second.mean == pytest.approx(160 / 1.5)


def test_a_single_value_has_no_deviation_and_none_has_no_mean() -> None:
    assert spread([2.0, None]) == around(2.0, None, 1)
    assert spread([None]) is None


def test_the_noise_scale_is_of_means_and_only_of_a_signal_that_is_known() -> None:
    points = [NoisePoint(images=100, signal=signal, variance=variance) for signal, variance in ((1, 90), (3, 110))]
    assert noise_scale(points) == pytest.approx(50)
    lost = [NoisePoint(images=100, signal=signal, variance=90) for signal in (-1.0, 1.5, 0.2)]
    assert noise_scale(lost) is None
    assert noise_scale([]) is None
    assert inf not in [noise_scale([NoisePoint(images=1, signal=0.0, variance=1.0)])]
