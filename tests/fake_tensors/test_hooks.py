"""Hooks on gradients run as in PyTorch, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_full_backward_hook, register_module_full_backward_pre_hook

from tests.fake_tensors.models import Hooked, Square
from tests.fake_tensors.test_cuda import WORKSPACE, allocated_by, peak_bytes, trace_of, training
from vram_cli.config import load_config
from vram_cli.fake_tensors import FakeTensorProbe, SimulatedTraining, UnsupportedError
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.patches import simulated_autograd
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Workload


class Forward(nn.Linear):
    """A layer that calls a function on its output in the forward pass."""

    def __init__(self, on_output: Callable[[torch.Tensor], Any]) -> None:
        super().__init__(400, 10)
        self.on_output = on_output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = super().forward(images)
        self.on_output(output)
        return output


def with_module_hook(register: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(400, 20), nn.Sequential(nn.Linear(20, 10)))
    getattr(model[1], register)(lambda *_: None)
    return model


@pytest.mark.parametrize(
    "register", ["register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"]
)
def test_module_backward_hook_is_refused(register: str) -> None:
    with pytest.raises(UnsupportedError, match=r"a backward hook, .* in 1 cannot be predicted") as caught:
        trace_of(training(lambda: with_module_hook(register), (400,)), 8)
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize("register", [register_module_full_backward_hook, register_module_full_backward_pre_hook])
def test_global_module_backward_hook_is_refused(register: Callable[..., Any]) -> None:
    handle = register(lambda *_: None)
    try:
        with pytest.raises(UnsupportedError, match="a backward hook"):
            trace_of(training(lambda: nn.Linear(400, 10), (400,)), 8)
    finally:
        handle.remove()


def test_backward_hook_added_after_the_build_is_refused() -> None:
    plain = training(lambda: nn.Linear(400, 10), (400,))

    def with_hook(model: nn.Module, device: torch.device) -> Workload:
        model.register_full_backward_hook(lambda *_: None)
        return plain.workload(model, device)

    with pytest.raises(UnsupportedError, match="a backward hook"):
        trace_of(SimulatedTraining(plain.build_model, with_hook, plain.make_batch), 8)


def call_module_with_hook(output: torch.Tensor) -> None:
    module = nn.Identity()
    module.register_full_backward_hook(lambda *_: None)
    module(output)


NODES = {
    "hook": lambda output: output.grad_fn.register_hook(lambda *_: None),
    "prehook": lambda output: output.grad_fn.register_prehook(lambda *_: None),
    "leaf": lambda output: output.grad_fn.next_functions[0][0].register_hook(lambda *_: None),
    "custom": lambda output: Square.apply(output).grad_fn.register_hook(lambda *_: None),
    "module": call_module_with_hook,
}


@pytest.mark.parametrize("kind", NODES)
def test_node_hook_is_refused(kind: str) -> None:
    probe = FakeTensorProbe(
        load_config("mlp_mnist"), find_gpu("t4"), training=training(lambda: Forward(NODES[kind]), (400,))
    )
    with pytest.raises(UnsupportedError, match=r"a hook on a node of the graph \(grad_fn.register_hook"):
        probe.measure(8)


def test_tensors_of_a_tensor_hook_are_traced() -> None:
    """One hook doubles the gradient of the logits, another that of the weights: a new tensor each."""

    def build() -> nn.Module:
        model = Forward(lambda output: output.register_hook(lambda grad: grad * 2))
        model.weight.register_hook(lambda grad: grad * 2)
        return model

    trace = trace_of(training(build, (400,)), 100)
    assert allocated_by(trace, "aten.mul") == [4 * 100 * 10, 4 * 400 * 10]


def test_hook_that_reads_a_value_is_refused() -> None:
    def build() -> nn.Module:
        model = nn.Linear(400, 10)
        model.weight.register_hook(lambda grad: grad * 2 if grad.sum().item() > 0 else None)
        return model

    with pytest.raises(UnsupportedError, match="_local_scalar_dense"):
        trace_of(training(build, (400,)), 8)


def test_optimizer_in_backward_keeps_no_gradients() -> None:
    layers = lambda: nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(8)))  # noqa: E731
    plain = training(layers, (256,), torch.optim.Adam)

    def optimizer_in_backward(model: nn.Module, device: torch.device) -> Workload:
        optimizers = {parameter: torch.optim.Adam([parameter]) for parameter in model.parameters()}

        def step(parameter: torch.Tensor) -> None:
            optimizers[parameter].step()
            optimizers[parameter].zero_grad()

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        return plain.workload(model, device)

    size = 4 * 256 * 256
    in_backward = SimulatedTraining(plain.build_model, optimizer_in_backward, plain.make_batch)
    early = trace_of(in_backward, 1, torch_version=(2, 15))
    late = trace_of(plain, 1, torch_version=(2, 15))
    # Weights and two moments of eight layers; eight gradients, and a quotient for each, all at once.
    assert peak_bytes(late, Phase.OPTIMIZER) // size == 3 * 8 + 8 + 8
    assert peak_bytes(early, Phase.OPTIMIZER) // size == 3 * 8
    # One gradient at a time; the peak is in the matrix product that computes it, with its workspace.
    assert (peak_bytes(early, Phase.BACKWARD) - WORKSPACE) // size == 3 * 8 + 1
    assert not any(storage.category is Category.GRADIENTS for storage in early.storages if storage.bytes >= size)


def test_hooks_see_the_same_gradients_as_in_pytorch() -> None:
    """Even if another graph runs before theirs; a retained gradient is the result of the last hook."""
    gradients = []
    for engine in (None, Engine()):
        torch.manual_seed(0)
        model, other, images = Hooked(), nn.Linear(4, 4), torch.randn(4, 3, 8, 8)
        with simulated_autograd(engine) if engine else torch.enable_grad():
            loss = model(images).square().sum()
            other(torch.ones(2, 4)).sum().backward()
            loss.backward()
            retained, passed_on = model.tensors
        gradients.append([retained.grad, passed_on, *(parameter.grad for parameter in model.parameters())])
    for expected, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
