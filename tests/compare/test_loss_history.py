"""Loss noise, divergence and loss curves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.loss_history import MAX_CURVE_POINTS, LossHistory


def make_history(losses: Sequence[float], batch_size: int = 10, last_size: int | None = None) -> LossHistory:
    history = LossHistory(batch_size * len(losses))
    for index, loss in enumerate(losses):
        size = last_size if last_size and index == len(losses) - 1 else batch_size
        history.add(size, size, torch.tensor(loss))
    if losses:
        history.read()
    return history


def test_noise_excludes_the_trend() -> None:
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.25
    trend = torch.linspace(9, 1, 20_000)
    assert make_history((trend + noise).tolist()).noise(10) == pytest.approx(0.25, rel=0.02)
    assert make_history(trend.tolist()).noise(10) == pytest.approx(0, abs=1e-3)


def test_noise_of_the_second_half() -> None:
    losses = [0.0, 100.0] * 50 + [1.0, 3.0] * 50
    assert make_history(losses).noise(10) == pytest.approx(2**0.5)


def test_noise_needs_enough_full_batches() -> None:
    assert make_history([1.0, 2.0] * 20, last_size=3).noise(10) == pytest.approx(0.5**0.5)
    assert make_history([1.0, 2.0] * 20).noise(7) is None
    assert make_history([1.0, 2.0] * 8).noise(10) is None


def test_diverged_at_the_first_loss_that_is_not_finite() -> None:
    history = make_history([1.0, 2.0, float("inf"), float("nan")])
    assert history.diverged_at == 3
    assert [point.loss for point in history.curve()] == [1.0, 2.0]
    assert history.noise(10) is None
    history = make_history([1.0])
    history.add(10, 10, torch.tensor(float("nan")))
    history.read()
    assert history.diverged_at == 2


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=300), st.integers(1, 64))
def test_curve_is_short_and_complete(losses: list[float], batch_size: int) -> None:
    history = make_history(losses, batch_size)
    curve = history.curve()
    assert 1 <= len(curve) <= MAX_CURVE_POINTS
    assert curve[-1].samples == history.samples == batch_size * len(losses)
    assert [point.samples for point in curve] == sorted({point.samples for point in curve})
    assert min(losses) <= min(point.loss for point in curve) + 1e-6
    if len(losses) <= MAX_CURVE_POINTS:
        assert [point.loss for point in curve] == pytest.approx(losses)
