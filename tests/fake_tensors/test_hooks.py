"""Hooks on gradients are run as PyTorch runs them, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_full_backward_hook, register_module_full_backward_pre_hook

from tests.fake_tensors.models import Hooked, Square
from tests.fake_tensors.test_cuda import WORKSPACE, highest, made_by, subject, tape_of
from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe, SimulatedTraining, UnsupportedError
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.patches import simulated_autograd
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Workload


class Forward(nn.Linear):
    """A layer that does something to its output in the forward pass."""

    def __init__(self, then: Callable[[torch.Tensor], Any]) -> None:
        super().__init__(400, 10)
        self.then = then

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = super().forward(images)
        self.then(output)
        return output


def with_module_hook(register: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(400, 20), nn.Sequential(nn.Linear(20, 10)))
    getattr(model[1], register)(lambda *_: None)
    return model


@pytest.mark.parametrize(
    "register", ["register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"]
)
def test_backward_hooks_of_modules_are_refused_by_name(register: str) -> None:
    with pytest.raises(UnsupportedError, match=r"a backward hook, .* in 1 cannot be predicted") as caught:
        tape_of(subject(lambda: with_module_hook(register), (400,)), 8)
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize("register", [register_module_full_backward_hook, register_module_full_backward_pre_hook])
def test_backward_hooks_of_all_modules_are_refused(register: Callable[..., Any]) -> None:
    handle = register(lambda *_: None)
    try:
        with pytest.raises(UnsupportedError, match="a backward hook"):
            tape_of(subject(lambda: nn.Linear(400, 10), (400,)), 8)
    finally:
        handle.remove()


def test_a_hook_that_comes_with_the_rest_of_the_training_is_refused_too() -> None:
    plain = subject(lambda: nn.Linear(400, 10), (400,))

    def training(model: nn.Module, device: torch.device) -> Workload:
        model.register_full_backward_hook(lambda *_: None)
        return plain.workload(model, device)

    with pytest.raises(UnsupportedError, match="a backward hook"):
        tape_of(SimulatedTraining(plain.build_model, training, plain.make_batch), 8)


def call_a_module_with_a_hook(output: torch.Tensor) -> None:
    module = nn.Identity()
    module.register_full_backward_hook(lambda *_: None)
    module(output)


NODES = {
    "hook": lambda output: output.grad_fn.register_hook(lambda *_: None),
    "prehook": lambda output: output.grad_fn.register_prehook(lambda *_: None),
    "leaf": lambda output: output.grad_fn.next_functions[0][0].register_hook(lambda *_: None),
    "custom": lambda output: Square.apply(output).grad_fn.register_hook(lambda *_: None),
    "module": call_a_module_with_a_hook,
}


@pytest.mark.parametrize("kind", NODES)
def test_hooks_of_nodes_are_refused_by_name(kind: str) -> None:
    probe = FakeTensorProbe(
        load_config("mlp_mnist"), find_gpu("t4"), subject=subject(lambda: Forward(NODES[kind]), (400,))
    )
    with pytest.raises(UnsupportedError, match=r"a hook on a node of the graph \(grad_fn.register_hook"):
        probe.measure(8)


def test_what_a_hook_of_a_tensor_makes_is_on_the_tape() -> None:
    """A hook on the logits doubles their gradient, one on the weights theirs: a new tensor for each."""

    def build() -> nn.Module:
        model = Forward(lambda output: output.register_hook(lambda grad: grad * 2))
        model.weight.register_hook(lambda grad: grad * 2)
        return model

    tape = tape_of(subject(build, (400,)), 100)
    assert made_by(tape, "aten.mul") == [4 * 100 * 10, 4 * 400 * 10]


def test_a_hook_that_reads_a_value_is_refused() -> None:
    def build() -> nn.Module:
        model = nn.Linear(400, 10)
        model.weight.register_hook(lambda grad: grad * 2 if grad.sum().item() > 0 else None)
        return model

    with pytest.raises(UnsupportedError, match="_local_scalar_dense"):
        tape_of(subject(build, (400,)), 8)


def test_an_optimizer_that_steps_in_the_backward_pass_keeps_no_gradients() -> None:
    layers = lambda: nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8)))  # noqa: E731
    plain = subject(layers, (256,), torch.optim.Adam)

    def training(model: nn.Module, device: torch.device) -> Workload:
        own = {parameter: torch.optim.Adam([parameter]) for parameter in model.parameters()}

        def step(parameter: torch.Tensor) -> None:
            own[parameter].step()
            own[parameter].zero_grad()

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        return plain.workload(model, device)

    size = 4 * 256 * 256
    early = tape_of(SimulatedTraining(plain.build_model, training, plain.make_batch), 1, torch_version=(2, 15))
    late = tape_of(plain, 1, torch_version=(2, 15))
    # Weights and two moments of eight layers; eight gradients, and a quotient for each, all at once.
    assert highest(late, Phase.OPTIMIZER) // size == 3 * 8 + 8 + 8
    assert highest(early, Phase.OPTIMIZER) // size == 3 * 8
    # One gradient at a time: highest where the product that makes it takes its workspace.
    assert (highest(early, Phase.BACKWARD) - WORKSPACE) // size == 3 * 8 + 1
    assert not any(storage.category is Category.GRADIENTS for storage in early.storages if storage.bytes >= size)


def test_hooks_see_what_they_see_under_pytorchs_own_engine() -> None:
    """Also where another graph is run before theirs, and a gradient that is retained is the one of the last hook."""
    seen = []
    for engine in (None, Engine()):
        torch.manual_seed(0)
        model, other, images = Hooked(), nn.Linear(4, 4), torch.randn(4, 3, 8, 8)
        with simulated_autograd(engine) if engine else torch.enable_grad():
            loss = model(images).square().sum()
            other(torch.ones(2, 4)).sum().backward()
            loss.backward()
            kept, handed_over = model.kept
        seen.append([kept.grad, handed_over, *(parameter.grad for parameter in model.parameters())])
    for theirs, own in zip(*seen, strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=0)
