"""From a config to its workload on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from vram_cli.config import Config
from vram_cli.workload.losses import Criterion, criterion_of, evaluation_of, loss_of
from vram_cli.workload.model_libraries import library_builder
from vram_cli.workload.models import build_model, parameter_dtype
from vram_cli.workload.optimizers import build_optimizer, optimizer_key
from vram_cli.workload.parallel import replicate, shard
from vram_cli.workload.steps import MAX_MICRO_BATCHES, evaluation_step, train_step, user_step
from vram_cli.workload.user_code import resolve
from vram_cli.workload.weight_average import WeightAverage
from vram_cli.workload.workload import Workload

_AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}


Place = Callable[[str, Callable[[], nn.Module], torch.device, torch.dtype | None], nn.Module]
"""(part, build, device, dtype) -> module: builds "model" or "criterion", and moves it to the device and the dtype."""


def build_workload(
    config: Config, device: torch.device, place: Place | None = None, *, sharded_from: torch.device | None = None
) -> Workload:
    """Build model and optimizer on the device, in the order of a training script.

    Args:
        config: the training.
        device: the device.
        place: `Module.to` by default.
        sharded_from: the device on which a model is whole before it is sharded; the CPU by default.
    """
    place = place or _place
    dtype, criterion = parameter_dtype(config), criterion_of(config)
    if config.parallel is not None and config.parallel.shards:
        whole = place("model", lambda: build_model(config), sharded_from or torch.device("cpu"), dtype)
        model = shard(config, whole, device)
    else:
        model = place("model", lambda: build_model(config), device, dtype)
    if isinstance(criterion, nn.Module):
        loss = criterion
        criterion = cast("Criterion", place("criterion", lambda: loss, device, dtype))
    return workload_of(config, model, criterion, device)


def _place(_: str, build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    return moved(build(), device, dtype)


def moved(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """Move a module to a device, its floating parameters and buffers also to a dtype; complex ones stay complex.

    `Module.to` casts complex ones too, and so drops their imaginary parts.
    """
    if dtype is None:
        return module.to(device=device)
    module._apply(lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype))
    return module


def workload_of(config: Config, model: nn.Module, criterion: Criterion | None, device: torch.device) -> Workload:
    """Return the config's workload around a model and a criterion that are on the device already.

    Raises:
        ConfigError: the config names a step or an optimizer that cannot be used, or not on this device.
    """
    train = config.train
    model = cast("nn.Module", torch.compile(model)) if train.compile else replicate(config, model)
    if config.mode == "eval":
        return Workload(
            model=model,
            loss=evaluation_of(config, criterion),
            optimizer=None,
            device=device,
            step=evaluation_step,
            scaler=torch.amp.GradScaler(device.type, enabled=False),
            autocast_dtype=_AUTOCAST.get(config.precision),
            criterion=criterion if isinstance(criterion, nn.Module) else None,
        )
    return Workload(
        model=model,
        loss=loss_of(config, criterion),
        optimizer=build_optimizer(config, model.parameters(), device),
        optimizer_key=optimizer_key(config),
        device=device,
        step=user_step(resolve(config.step.function, "step.function")) if config.step else train_step,
        # A scale of 1 takes as much memory as the usual 65536, and never makes the first steps overflow: a step
        # skipped for infinite gradients would create no optimizer state, and the peak would be too low.
        scaler=torch.amp.GradScaler(device.type, init_scale=1.0, enabled=config.precision == "amp-fp16"),
        autocast_dtype=_AUTOCAST.get(config.precision),
        zero_grad_to_none=train.zero_grad_set_to_none,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        micro_batches=min(train.gradient_accumulation_steps, MAX_MICRO_BATCHES),
        clip_grad_norm=train.clip_grad_norm,
        average=WeightAverage(model) if train.ema else None,
        criterion=criterion if isinstance(criterion, nn.Module) else None,
    )


def check_code(config: Config) -> None:
    """Import all code that the config names, so that import errors are reported before anything runs.

    Raises:
        ConfigError: an import fails.
    """
    if config.model.factory and library_builder(config.model.factory) is None:
        resolve(config.model.factory, "model.factory")
    criterion_of(config)
    if config.mode == "train" and config.optimizer.factory:
        resolve(config.optimizer.factory, "optimizer.factory")
    if config.mode == "train" and config.step:
        resolve(config.step.function, "step.function")


def set_matmul_precision(config: Config) -> None:
    """Let float32 matrix products use TensorFloat-32 for `tf32`; otherwise leave PyTorch's setting, or the user's.

    PyTorch's default lets convolutions use TensorFloat-32, but not matrix products. A setting of the whole process:
    call this in the worker process that runs trials.
    """
    if config.precision == "tf32":
        torch.backends.cuda.matmul.fp32_precision = "tf32"


def convolutions_use_tf32() -> bool:
    """Whether float32 convolutions may use TensorFloat-32 in this process: PyTorch's default."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # set for convolutions alone
        return torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined,no-any-return]
