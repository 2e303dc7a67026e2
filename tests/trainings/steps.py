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


class TwoDtypes(nn.Module):
    """A frozen base in bfloat16 with an adapter in float32, as peft makes them, and a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, WIDTH, bias=False).to(torch.bfloat16).requires_grad_(False)
        self.adapter = nn.Sequential(nn.Linear(8, 4, bias=False), nn.Linear(4, WIDTH, bias=False))
        self.last = nn.Linear(WIDTH, 2)
        self.register_buffer("codes", torch.zeros(16, dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.base(x.to(torch.bfloat16)).float() + self.adapter(x.float()))


class Double(nn.Sequential):
    """An MLP in float64; data that are float32 follow it."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))
        self.double()


class Spectral(nn.Module):
    """Complex weights on a Fourier transform, as in neural operators."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, dtype=torch.complex64))
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=8))


class Lazy(nn.Sequential):
    """Layers whose sizes the first batch decides."""

    def __init__(self) -> None:
        super().__init__(nn.LazyLinear(WIDTH), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(2))


class Words(nn.Module):
    """An embedding with sparse gradients: `bag` sums the rows of a sample."""

    def __init__(self, bag: bool = False) -> None:
        super().__init__()
        kind = nn.EmbeddingBag if bag else nn.Embedding
        self.table = kind(1000, WIDTH, sparse=True)
        self.last = nn.Linear(WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.table(x)
        return self.last(rows if rows.dim() == 2 else rows.mean(1))


def sparse_step(model: Words, batch: Any, optimizer: torch.optim.Optimizer, kind: Any = torch.optim.SparseAdam) -> Any:
    """Step the table with an optimizer for sparse gradients, made here, and the rest with the config's."""
    if not hasattr(model, "own"):
        model.own = kind(model.table.parameters(), lr=0.01)  # type: ignore[assignment]
    for each in (model.own, optimizer):
        each.zero_grad()
    loss = functional.cross_entropy(model(batch[0]["x"]), batch[1])
    loss.backward()
    model.own.step()
    for parameter in model.table.parameters():
        parameter.grad = None
    optimizer.step()
    return loss


def adagrad_step(model: Words, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Step the table with Adagrad, which keeps a dense sum of squares."""
    return sparse_step(model, batch, optimizer, torch.optim.Adagrad)


class WithLoss(Net):
    """Returns (scores, loss), as nanoGPT does."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:  # type: ignore[override]
        scores = super().forward(x)
        return scores, None if labels is None else functional.cross_entropy(scores, labels)


def gan_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Step two optimizers in turn, one of them made here."""
    if not hasattr(model, "judge"):
        model.judge = torch.optim.Adam(model.last.parameters())  # type: ignore[assignment]
    x = batch[0]["x"]
    hidden = torch.relu(model.first(x))
    model.judge.zero_grad()
    model.last(hidden.detach()).square().mean().backward()
    model.judge.step()
    optimizer.zero_grad()
    loss = functional.cross_entropy(model.last(hidden), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def lbfgs_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Give LBFGS a closure."""
    if not hasattr(model, "own"):
        model.own = torch.optim.LBFGS(model.parameters(), max_iter=2, history_size=2)  # type: ignore[assignment]

    def closure() -> torch.Tensor:
        model.own.zero_grad()
        loss = functional.cross_entropy(model(batch[0]["x"]), batch[1])
        loss.backward()
        return loss

    return model.own.step(closure)


def penalty_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Add the norm of the gradient of the inputs to the loss, as WGAN-GP does."""
    x = batch[0]["x"].requires_grad_()
    optimizer.zero_grad()
    output = model(x)
    (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    loss = functional.cross_entropy(output, batch[1]) + slope.square().mean()
    loss.backward()
    optimizer.step()
    return loss


def retaining_step(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Go back twice through one graph, with hooks on a tensor and on a module."""
    optimizer.zero_grad()
    handle = model.last.register_full_backward_hook(lambda *_: None)
    hidden = torch.relu(model.first(batch[0]["x"]))
    hidden.register_hook(lambda grad: grad * 2)
    loss = functional.cross_entropy(model.last(hidden), batch[1])
    loss.backward(retain_graph=True)
    (loss * 0.5).backward()
    handle.remove()
    optimizer.step()
    return loss


OWN: dict[str, Any] = {}


def step_with_a_global_optimizer(model: Net, batch: Any, _: Any) -> Any:
    """Keep the optimizer of a model in a dictionary of the module, where it outlives the trial."""
    if id(model) not in OWN:
        OWN[id(model)] = torch.optim.Adam(model.parameters())
    return _train(model, batch, OWN[id(model)])[1]


def attends(model: Net, batch: Any, _: Any) -> Any:
    """Attend within each row, with dropout."""
    rows = batch[0]["x"].requires_grad_().reshape(-1, 1, 1, 8)
    return functional.scaled_dot_product_attention(rows, rows, rows, dropout_p=0.1).mean()


def pads(model: Net, batch: Any, _: Any) -> Any:
    """Reflect the borders of images whose batch has 2**31 elements."""
    images = batch[0]["x"].new_empty(len(batch[1]), 1, 64, 128)
    return functional.pad(images, (1, 1, 1, 1), mode="reflect").mean()


def pools(model: Net, batch: Any, _: Any) -> Any:
    """Pool images with one row of blocks for each."""
    images = batch[0]["x"].new_empty(len(batch[1]), 1, 9, 9)
    return functional.fractional_max_pool2d(images, 2, output_size=3).mean()


def asks_the_device(model: Net, batch: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Ask the GPU for its capability, free memory and name, and wait for it."""
    if (device := batch[1].device).type == "cuda":
        assert torch.cuda.get_device_capability(device) == (7, 5)
        free, total = torch.cuda.mem_get_info(device)
        assert 0 < free < total
        assert "T4" in torch.cuda.get_device_name(device)
        torch.cuda.synchronize()
    return _train(model, batch, optimizer)[1]
