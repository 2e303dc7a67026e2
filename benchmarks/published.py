"""The trainings that others measured: the rows of data/, and the code that each stands for."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vram_cli.fake_tensors import SimulatedTraining
from vram_cli.records import Phase
from vram_cli.units import GIB
from vram_cli.workload import Workload, supervised
from vram_cli.workload.workload import Step

DATA = Path(__file__).parent / "data"
FILES = {"xmem": "xmem_peaks.csv", "timm": "timm_rtx3090_brackets.csv"}

TIMM_CONTEXT = 1_687_000_000
"""RTX 3090, torch 1.8.2 + CUDA 11.1 without lazy loading: the measurement closest to theirs (pytorch#55277)."""
TIMM_TOTAL = int(23.69 * GIB)
"""Total memory that torch reported on that GPU; see data/README.md."""


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a set."""
    with (DATA / FILES[name]).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def timm_training(name: str, size: int, *, channels_last: bool) -> SimulatedTraining:
    """Return the training of timm's benchmark.py: autocast includes backward, gradients are zeroed in place."""
    import timm

    layout = torch.channels_last if channels_last else torch.contiguous_format

    def make_batch(n: int, device: torch.device, _: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.empty(n, 3, size, size, device=device)
        return images.contiguous(memory_format=layout), torch.empty(0, dtype=torch.int64, device=device)

    def step(work: Workload, batch: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]) -> torch.Tensor:
        work.optimizer.zero_grad(set_to_none=False)
        enter(Phase.FORWARD)
        with work.autocast():
            output = work.model(batch[0])
            output = output[0] if isinstance(output, tuple) else output
            targets = torch.empty(len(output), dtype=torch.int64, device=output.device)
            loss = functional.cross_entropy(output, targets)
            enter(Phase.BACKWARD)
            loss.backward()
        enter(Phase.OPTIMIZER)
        work.optimizer.step()
        return output

    return SimulatedTraining(
        build_model=lambda: _sized(timm.create_model, name, size).to(memory_format=layout),
        workload=lambda model, device: _workload(
            model,
            device,
            torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True, foreach=False),
            torch.float16,
            step,
        ),
        make_batch=make_batch,
    )


def xmem_training(row: dict[str, str]) -> SimulatedTraining | None:
    """Return a float32 training of a torchvision model with a new batch in every step; None for other models."""
    from torchvision import models

    name = row["model"].lower().replace("convnext", "convnext_").replace("regnet", "regnet_")
    name = name.replace("mnasnet", "mnasnet1_0").replace("mobilenetv", "mobilenet_v").replace("x400", "_x_400")
    name = name.replace("y400", "_y_400").replace("__", "_").replace("v3l", "v3_large").replace("v3s", "v3_small")
    if name not in models.list_models():
        return None
    classes = 10 if "num_classes=10;" in row["extra_setup"] else 1000
    between = "between forward and backward;" in row["extra_setup"].replace("(mode 1);", "")
    optimizer: Any = getattr(torch.optim, row["optimizer"])
    batch_size = [0]

    def make_batch(n: int, device: torch.device, _: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        batch_size[0] = n
        return torch.empty(0, device=device), torch.empty(0, device=device, dtype=torch.int64)

    batch: list[torch.Tensor] = []

    def step(work: Workload, _: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]) -> torch.Tensor:
        batch[:] = [
            torch.empty(batch_size[0], 3, 86, 86, device=work.device),
            torch.empty(batch_size[0], device=work.device, dtype=torch.int64),
        ]
        if not between:
            work.optimizer.zero_grad()
        enter(Phase.FORWARD)
        loss = work.loss(work.model, (batch[0], batch[1]))
        if between:
            work.optimizer.zero_grad()
        enter(Phase.BACKWARD)
        loss.backward()
        enter(Phase.OPTIMIZER)
        work.optimizer.step()
        return loss

    return SimulatedTraining(
        build_model=lambda: models.get_model(name, weights=None, num_classes=classes),
        workload=lambda model, device: _workload(model, device, optimizer(model.parameters(), lr=1e-3), None, step),
        make_batch=make_batch,
    )


def _workload(
    model: nn.Module,
    device: torch.device,
    optimizer: torch.optim.Optimizer,
    autocast: torch.dtype | None,
    step: Step,
) -> Workload:
    return Workload(
        model=model.train(),
        loss=supervised(nn.CrossEntropyLoss()),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cuda", enabled=False),
        device=device,
        autocast_dtype=autocast,
        step=step,
    )


def _sized(create: Callable[..., nn.Module], name: str, size: int) -> nn.Module:
    """Create the model for an image size, if it takes one."""
    try:
        return create(name, img_size=size)
    except TypeError:
        return create(name)
