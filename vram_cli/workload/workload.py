"""What is trained: model, loss, optimizer and precision, on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from vram_cli.config import Config
from vram_cli.workload.losses import Criterion, Loss, criterion_of, loss_of
from vram_cli.workload.model_registries import registered
from vram_cli.workload.models import build_model
from vram_cli.workload.optimizers import build_optimizer, optimizer_key
from vram_cli.workload.user_code import resolve
from vram_cli.workload.weight_average import WeightAverage

_AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}


OwnStep = Callable[[nn.Module, Any, Any], Any]
"""The user's step(model, batch, optimizer) -> loss."""


@dataclass(frozen=True)
class Workload:
    """All that `train_step` needs besides a batch."""

    model: nn.Module
    loss: Loss
    optimizer: Any
    """A torch.optim.Optimizer, or what stands for one where parameters are stepped in the backward pass."""
    scaler: torch.amp.GradScaler
    device: torch.device
    autocast_dtype: torch.dtype | None
    zero_grad_to_none: bool = True
    gradient_accumulation_steps: int = 1
    """Batches to an optimizer's step."""
    clip_grad_norm: float | None = None
    average: WeightAverage | None = None
    criterion: nn.Module | None = None
    """What the loss compares with, where that is a module: it may have tensors of its own, such as a whole network."""
    optimizer_key: str = ""
    """Key of the config to attribute errors of the optimizer's steps to, if it is not a preset."""
    own_step: OwnStep | None = None
    """In place of all of the above."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def build_workload(config: Config, device: torch.device) -> Workload:
    """Build model and optimizer on the device, in the order in which a training script does."""
    dtype, criterion = parameter_dtype(config), criterion_of(config)
    model = build_model(config).to(device=device, dtype=dtype)
    if isinstance(criterion, nn.Module):
        criterion = criterion.to(device=device, dtype=dtype)
    return workload_of(config, model, criterion, device)


def workload_of(config: Config, model: nn.Module, criterion: Criterion | None, device: torch.device) -> Workload:
    """Return the config's workload around a model and a criterion that lie on the device already.

    Raises:
        ConfigError: the config names code for the step that is not usable, or an optimizer that is not for this device.
    """
    return Workload(
        model=cast("nn.Module", torch.compile(model)) if config.train.compile else model,
        loss=loss_of(config, criterion),
        optimizer=build_optimizer(config, model.parameters(), device),
        optimizer_key=optimizer_key(config),
        # A scale of 1 takes as much memory as the usual 65536, and never makes the first steps overflow: a step
        # skipped for infinite gradients would leave the optimizer's state unmade, and the peak too low.
        scaler=torch.amp.GradScaler(device.type, init_scale=1.0, enabled=config.precision == "amp-fp16"),
        device=device,
        autocast_dtype=_AUTOCAST.get(config.precision),
        zero_grad_to_none=config.train.zero_grad_set_to_none,
        gradient_accumulation_steps=config.train.gradient_accumulation_steps,
        clip_grad_norm=config.train.clip_grad_norm,
        average=WeightAverage(model) if config.train.ema else None,
        criterion=criterion if isinstance(criterion, nn.Module) else None,
        own_step=resolve(config.step.function, "step.function") if config.step else None,
    )


def check_code(config: Config) -> None:
    """Import all code that a config names, so that what cannot be imported is told before anything runs.

    Raises:
        ConfigError: something cannot be.
    """
    if config.model.factory and registered(config.model.factory) is None:
        resolve(config.model.factory, "model.factory")
    criterion_of(config)
    if config.optimizer.factory:
        resolve(config.optimizer.factory, "optimizer.factory")
    if config.step:
        resolve(config.step.function, "step.function")


def parameter_dtype(config: Config) -> torch.dtype:
    """Return the dtype of weights and inputs: bfloat16 for pure bf16, float32 for all others."""
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def set_matmul_precision(config: Config) -> None:
    """Let float32 matrix products and convolutions use TensorFloat-32 for `tf32`, and IEEE float32 otherwise.

    A setting of the whole process: for the child process that runs trials, not for a caller's own.
    """
    precision = "tf32" if config.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
