"""What is simulated: how the model, its training and its batches are made, and where they would lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from vram_cli.config import Config
from vram_cli.results import DataInfo
from vram_cli.workload import (
    DataSource,
    Workload,
    build_model,
    open_data,
    parameter_dtype,
    train_step,
    workload_of,
)

Batch = tuple[torch.Tensor, torch.Tensor]
Step = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A training, in the parts that a simulation has to take apart."""

    build_model: Callable[[], nn.Module]
    """Makes the model as a training script does, before it is moved to the GPU."""
    workload: Callable[[nn.Module, torch.device], Workload]
    """Makes the rest around the model, once it lies on the device."""
    make_batch: Callable[[int, torch.device], Batch]
    dtype: torch.dtype | None = None
    """What parameters are cast to as they are moved; None leaves them as they are."""
    step: Step = train_step


def subject_of(config: Config) -> tuple[Subject, DataInfo]:
    """Return what a config trains, and what its batches look like; no data is read."""
    source = synthetic_data(config)
    dtype = parameter_dtype(config)
    return (
        Subject(
            build_model=lambda: build_model(config),
            workload=lambda model, device: workload_of(config, model, device),
            make_batch=lambda n, device: source.make_batch(n, device, dtype),
            dtype=dtype,
        ),
        source.info,
    )


def synthetic_data(config: Config) -> DataSource:
    """Return a source that makes batches of the config's shape without looking for files."""
    data = config.data
    if data.name != "synthetic":
        data = data.model_copy(update={"source": "synthetic"})
    source = open_data(config.model_copy(update={"data": data}))
    return replace(source, info=replace(source.info, detail="shapes only: a prediction reads no data"))
