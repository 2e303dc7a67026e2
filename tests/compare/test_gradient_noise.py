"""The gradient noise scale of problems with a known answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import isfinite

import pytest
import torch
from torch import nn

from tests.workload.configs import HERE, config
from vram_cli.compare.gradient_noise import gradient_noise, signal_and_variance
from vram_cli.workload import build_workload

WIDTH = 40
SIGMA = 3.0


def test_quadratic_loss() -> None:
    """The gradient of |w - x|^2 / 2 is w - x: |G| is the distance of w from the mean, and tr(S) the variance of x."""
    work = build_workload(
        config(
            model={"factory": HERE + "point", "kwargs": {"width": WIDTH}},
            data={"inputs": {"x": {"shape": [WIDTH]}}},
            loss={"name": "model"},
        ),
        torch.device("cpu"),
    )
    weights = next(work.model.parameters()).detach()
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(WIDTH, generator=generator)

    def groups(size: int) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(2000):
            yield {"x": mean + SIGMA * torch.randn(size, WIDTH, generator=generator)}

    signal, variance = gradient_noise(work, groups(5), 5)
    true_signal = float((weights - mean).square().sum())
    assert signal == pytest.approx(true_signal, rel=0.02)
    assert variance == pytest.approx(WIDTH * SIGMA**2, rel=0.02)
    assert variance / signal == pytest.approx(WIDTH * SIGMA**2 / true_signal, rel=0.03)


def test_both_estimates_are_unbiased() -> None:
    """Averaged over all draws from a small population, the estimates equal the figures of the population."""
    population = torch.tensor([[1.0, -2.0], [4.0, 0.5], [-1.0, 1.0]], dtype=torch.float64)
    estimates = torch.tensor(
        [
            signal_and_variance([[population[i]], [population[j]], [population[k]]], group_size=1)
            for i, j, k in product(range(3), repeat=3)
        ],
        dtype=torch.float64,
    ).mean(0)
    assert estimates[0].item() == pytest.approx(population.mean(0).square().sum().item())
    assert estimates[1].item() == pytest.approx(population.var(0, unbiased=False).sum().item())


def test_one_group_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two groups"):
        signal_and_variance([[torch.ones(3)]], group_size=4)


def test_workload_is_unchanged() -> None:
    work = build_workload(
        config(
            model={"factory": HERE + "normed"},
            optimizer={"name": "adam"},
            train={"optimizer_in_backward": True},
        ),
        torch.device("cpu"),
    )
    for parameter in work.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    batches = [(torch.randn(6, 4), torch.randint(2, (6,))) for _ in range(3)]
    signal, variance = gradient_noise(work, batches, 6)
    assert variance > 0
    assert isfinite(signal)
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in work.model.parameters())  # type: ignore[arg-type]
    assert not any(work.optimizer.state.values())
    assert isinstance(work.model, nn.Module)
