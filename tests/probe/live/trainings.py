"""Trainings as functions of a batch size, in the forms that notebooks use, and the same as a config."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

CONFIG = """
model: {factory: "tests.probe.live.trainings:net"}
data: {factory: "tests.probe.live.trainings:batch"}
optimizer: {name: sgd, momentum: 0.9}
device: cpu
"""


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 1, 28, 28), torch.randint(10, (n,))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer.zero_grad()
    functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def generator(n: int) -> Iterator[None]:
    """Make everything anew, as a config does, and train on one batch."""
    model, (images, labels) = net(), batch(n)
    optimizer = sgd(model)
    while True:
        take_step(model, optimizer, images, labels)
        yield


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[int], Callable[[], None]]:
    """Return a training that returns a step function on live objects."""

    def make_training(n: int) -> Callable[[], None]:
        return lambda: take_step(model, optimizer, *batch(n))

    return make_training
