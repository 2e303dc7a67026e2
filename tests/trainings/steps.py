"""Models and steps of trainings, as people write them, for configs that name "tests.trainings.steps:NAME"."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTH = 64


class Net(nn.Module):
    """An MLP that has room for what steps keep."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 2)
        self.kept: Any = []
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


def _train(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = batch
    optimizer.zero_grad()
    output = model(inputs["x"])
    loss = functional.cross_entropy(output, targets)
    loss.backward()
    optimizer.step()
    model.steps += 1
    return output, loss


def keeps_losses(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Add up a metric with its graph, as in the FAQ of PyTorch: each step keeps its activations."""
    _, loss = _train(model, batch, optimizer)
    model.kept.append(functional.cross_entropy(model(batch[0]["x"]), batch[1]))
    return loss


def keeps_predictions(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Keep the outputs of an epoch to compute a metric at its end."""
    output, loss = _train(model, batch, optimizer)
    model.kept.append(output.detach())
    return loss


def leaves_cycles(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Leave a tensor in a reference cycle in each step."""
    output, loss = _train(model, batch, optimizer)
    cycle: list[Any] = [output.detach() + 1]
    cycle.append(cycle)
    return loss


def keeps_the_last_two(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Keep two outputs at most: memory is constant after the second step."""
    output, loss = _train(model, batch, optimizer)
    model.kept = deque([*model.kept, output.detach()], maxlen=2)
    return loss


def averages_from_the_third_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Make a copy of the weights once, in the third step."""
    _, loss = _train(model, batch, optimizer)
    if model.steps == 3:
        model.kept = [parameter.detach().clone() for parameter in model.parameters()]
    return loss


def steps_every_other_time(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Accumulate gradients over two calls."""
    inputs, targets = batch
    loss = functional.cross_entropy(model(inputs["x"]), targets)
    loss.backward()
    model.steps += 1
    if model.steps % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
    return loss


def keeps_from_the_tenth_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Begin to keep outputs late, as after a warm-up."""
    output, loss = _train(model, batch, optimizer)
    if model.steps >= 10:
        model.kept.append(output.detach())
    return loss
