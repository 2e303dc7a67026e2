"""What is made of a training's losses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.loss_history import STRETCHES, LossHistory


def diary(losses: Sequence[float], batch_size: int = 10, last: int | None = None) -> LossHistory:
    made = LossHistory(batch_size * len(losses))
    for index, loss in enumerate(losses):
        size = last if last and index == len(losses) - 1 else batch_size
        made.add(size, size, torch.tensor(loss))
    if losses:
        made.read()
    return made


def test_noise_is_the_deviation_from_the_trend_and_not_the_trend() -> None:
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.25
    trend = torch.linspace(9, 1, 20_000)
    found = diary((trend + noise).tolist()).noise(10)
    assert found == pytest.approx(0.25, rel=0.02)
    assert diary(trend.tolist()).noise(10) == pytest.approx(0, abs=1e-3)


def test_noise_is_that_of_the_second_half() -> None:
    losses = [0.0, 100.0] * 50 + [1.0, 3.0] * 50
    assert diary(losses).noise(10) == pytest.approx(2**0.5)


def test_smaller_batches_and_too_few_steps_tell_no_noise() -> None:
    assert diary([1.0, 2.0] * 20, last=3).noise(10) == pytest.approx(0.5**0.5)
    assert diary([1.0, 2.0] * 20).noise(7) is None
    assert diary([1.0, 2.0] * 8).noise(10) is None


def test_the_first_loss_that_is_not_finite_is_where_training_diverged() -> None:
    made = diary([1.0, 2.0, float("inf"), float("nan")])
    assert made.diverged_at == 3
    assert [point.loss for point in made.curve()] == [1.0, 2.0]
    assert made.noise(10) is None
    later = diary([1.0])
    later.add(10, 10, torch.tensor(float("nan")))
    later.read()
    assert later.diverged_at == 2


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=300), st.integers(1, 64))
def test_a_curve_is_short_and_ends_with_the_training(losses: list[float], batch_size: int) -> None:
    made = diary(losses, batch_size)
    curve = made.curve()
    assert 1 <= len(curve) <= STRETCHES
    assert curve[-1].images == made.images == batch_size * len(losses)
    assert [point.images for point in curve] == sorted({point.images for point in curve})
    assert min(losses) <= min(point.loss for point in curve) + 1e-6
    if len(losses) <= STRETCHES:
        assert [point.loss for point in curve] == pytest.approx(losses)
