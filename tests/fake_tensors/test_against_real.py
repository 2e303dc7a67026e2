"""The same step on fake and on real CPU tensors, with our engine and PyTorch's: the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tests.fake_tensors.models import MODELS
from tests.fake_tensors.phase_peaks import CPU, OUT_OF_PLACE, Peaks, fake, real
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.config import load_config
from vram_cli.fake_tensors import SimulatedTraining
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.patches import simulated_autograd
from vram_cli.records import Phase
from vram_cli.workload import Workload, build_model, supervised, train_step

pytestmark = pytest.mark.slow

N = 4
COUNTED = {"aten::add", "aten::add_", "aten::clone", "aten::copy_", "aten::sum", "aten::mul"}


def workload(model: nn.Module, device: torch.device) -> Workload:
    return Workload(
        model=model,
        loss=supervised(nn.CrossEntropyLoss()),
        optimizer=torch.optim.Adam(model.parameters()),
        scaler=torch.amp.GradScaler(device.type, enabled=False),
        device=device,
        autocast_dtype=None,
        step=train_step,
    )


def batch(n: int, device: torch.device, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(n, *shape, device=device), torch.zeros(n, device=device, dtype=torch.int64)


def in_backward(model: nn.Module, device: torch.device) -> Workload:
    """Step each parameter as soon as its gradient exists, then free the gradient."""
    optimizers = {parameter: torch.optim.Adam([parameter]) for parameter in model.parameters()}

    def step(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    return replace(workload(model, device), optimizer=torch.optim.SGD(model.parameters()))


def simulated(name: str, workload: Callable[[nn.Module, torch.device], Workload] = workload) -> SimulatedTraining:
    build, shape = CASES[name]
    return SimulatedTraining(build, workload, lambda n, device, _: batch(n, device, shape))


def run_real(training: SimulatedTraining) -> tuple[StorageTracker, Peaks]:
    return real(lambda: (training.workload(training.build_model(), CPU), training.make_batch(N, CPU, torch.float32)))


def presets() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    builders = {}
    for name in ("mlp_mnist", "cnn_cifar10", "resnet18_cifar10"):
        config = load_config(name)
        builders[name] = (lambda config=config: build_model(config), config.data.sample_shape)
    return builders


OF_TORCHVISION = ("resnet18_cifar10", "vit")
CASES = presets() | {name: (build, (3, 8, 8)) for name, build in MODELS.items()}


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.torchvision] * (name in OF_TORCHVISION)) for name in names]


@pytest.mark.parametrize("name", marked(CASES))
def test_peaks_agree_in_every_phase(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUT_OF_PLACE, lambda *_: False)
    measured, measured_peaks = run_real(simulated(name))
    predicted, predicted_peaks = fake(simulated(name), N)
    assert predicted_peaks == measured_peaks
    assert (predicted.peak_bytes, predicted.peak_phase) == (measured.peak_bytes, measured.peak_phase)


@pytest.mark.parametrize("name", ["cnn_cifar10", "encoder", "shared", "checkpoint", "hooked"])
def test_peaks_agree_with_optimizer_in_backward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUT_OF_PLACE, lambda *_: False)
    measured, measured_peaks = run_real(simulated(name, in_backward))
    predicted, predicted_peaks = fake(simulated(name, in_backward), N)
    assert predicted_peaks == measured_peaks
    assert predicted.peak_bytes == measured.peak_bytes
    # Without the hooks, gradients are alive in the optimizer phase.
    assert predicted_peaks[Phase.OPTIMIZER] < fake(simulated(name), N)[1][Phase.OPTIMIZER]


@pytest.mark.parametrize("name", marked(MODELS))
def test_engine_agrees_with_pytorch(name: str) -> None:
    """On real tensors without a tracker: the same gradients by the same additions and copies, in place or not."""
    torch.manual_seed(0)
    model, images = MODELS[name](), torch.randn(4, 3, 8, 8)
    gradients, operations = [], []
    engine = Engine()
    for ours in (False, True):
        model.zero_grad()
        with simulated_autograd(engine) if ours else nullcontext():
            loss = model(images).square().sum()
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        operations.append(Counter(event.name for event in profiled.events() if event.name in COUNTED))
    for expected, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected)
    assert operations[1] == operations[0]
