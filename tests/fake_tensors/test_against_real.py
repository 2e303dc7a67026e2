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
from vram_cli.accounting.storage_tracker import StorageTracker
from vram_cli.config import load_config
from vram_cli.fake_tensors import SimulatedTraining, Simulation
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.patches import simulated_autograd
from vram_cli.hardware.gpus import find_gpu
from vram_cli.records import Category, Phase
from vram_cli.workload import Workload, build_model, supervised, train_step

CPU = torch.device("cpu")
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


def batch(n: int, device: torch.device, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[torch.Tensor, torch.Tensor]:
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


TrainingLoop = Callable[[nn.Module, torch.device], Workload]


def real(
    build: Callable[[], nn.Module], n: int, shape: tuple[int, ...], training: TrainingLoop = workload
) -> tuple[StorageTracker, dict[Phase, int]]:
    """Run two real steps; return the tracker, and the peak of each phase of the second step."""
    tracker, peaks = StorageTracker(CPU), {}
    with tracker:
        work = training(build(), CPU)
        data = batch(n, CPU, shape)
        phase = Phase.BATCH

        def enter(new: Phase) -> None:
            nonlocal phase
            peaks[phase] = tracker.phase_peak_bytes
            phase = new
            tracker.enter_phase(new)

        for _ in range(2):
            tracker.label((*work.model.parameters(), *work.model.buffers()), Category.PARAMETERS)
            tracker.reset_peak()
            train_step(work, data, enter)
            enter(Phase.BATCH)
    return tracker, peaks


def fake(
    build: Callable[[], nn.Module], n: int, shape: tuple[int, ...], training: TrainingLoop = workload
) -> tuple[StorageTracker, dict[Phase, int]]:
    peaks: dict[Phase, int] = {}

    def step(work: Workload, data: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]) -> torch.Tensor:
        phase = Phase.BATCH

        def enter_and_note(new: Phase) -> None:
            nonlocal phase
            peaks[phase] = recorder().phase_peak_bytes
            phase = new
            enter(new)

        train_step(work, data, enter_and_note)
        enter_and_note(Phase.BATCH)
        return data[0]

    def recorder() -> StorageTracker:
        from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

        return next(mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, StorageTracker))

    def with_step(model: nn.Module, device: torch.device) -> Workload:
        return replace(training(model, device), step=step)

    simulated = SimulatedTraining(build, with_step, lambda n, device: batch(n, device, shape))
    simulation = Simulation(simulated, find_gpu("t4"), fused_attention=False, device=CPU)
    return simulation.run(n), peaks


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
def test_live_bytes_agree_in_every_phase(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A ledger on real tensors makes PyTorch add gradients out of place: the Python objects it asks for hold references.
    monkeypatch.setattr("vram_cli.fake_tensors.autograd_engine._is_ours", lambda *_: False)
    build, shape = CASES[name]
    measured, measured_peaks = real(build, 4, shape)
    predicted, predicted_peaks = fake(build, 4, shape)
    assert predicted_peaks == measured_peaks
    assert predicted.peak_bytes == measured.peak_bytes
    assert predicted.peak_phase is measured.peak_phase


@pytest.mark.parametrize("name", ["cnn_cifar10", "encoder", "shared", "checkpoint", "hooked"])
def test_peaks_agree_with_optimizer_in_backward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vram_cli.fake_tensors.autograd_engine._is_ours", lambda *_: False)
    build, shape = CASES[name]
    measured, measured_peaks = real(build, 4, shape, in_backward)
    predicted, predicted_peaks = fake(build, 4, shape, in_backward)
    assert predicted_peaks == measured_peaks
    assert predicted.peak_bytes == measured.peak_bytes
    # Without the hooks, gradients are alive in the optimizer phase.
    assert predicted_peaks[Phase.OPTIMIZER] < fake(build, 4, shape)[1][Phase.OPTIMIZER]


@pytest.mark.parametrize("name", marked(MODELS))
def test_the_engine_computes_what_pytorchs_engine_computes(name: str) -> None:
    """On real tensors and unwatched: the same gradients by the same additions and copies, in place where it is."""
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
    for theirs, own in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs)
    assert operations[1] == operations[0]
