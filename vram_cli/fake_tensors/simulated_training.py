"""The training that a simulation runs: how its model, optimizer and batches are created, and in which dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from vram_cli.config import Config
from vram_cli.fake_tensors.errors import unsupported
from vram_cli.records import DataInfo
from vram_cli.workload import (
    Batch,
    Workload,
    build_model,
    channels_last,
    criterion_of,
    open_data,
    parameter_dtype,
    workload_of,
)
from vram_cli.workload.data_source import MakeBatch
from vram_cli.workload.model_without_memory import ModelWithoutValues


@dataclass(frozen=True)
class SimulatedTraining:
    """The parts of a training that a simulation calls one by one."""

    build_model: Callable[[], nn.Module]
    """Builds the model as a training script does, before it moves to the GPU."""
    workload: Callable[[nn.Module, torch.device], Workload]
    """Builds the optimizer and the rest around the model, which is on the device by then."""
    make_batch: MakeBatch
    dtype: torch.dtype | None = None
    """What parameters are cast to as they are moved; None leaves them as they are."""


def training_from_config(config: Config) -> tuple[SimulatedTraining, DataInfo]:
    """Return the training of a config and the shapes of its batches, without reading data files.

    Raises:
        UnsupportedError: the config uses something whose memory cannot be predicted.
    """
    if config.train.compile:
        raise unsupported("train.compile, whose kernels and buffers are chosen as it runs,")
    if config.mode == "train" and config.optimizer.needs_gpu:
        key = f"optimizer.{config.optimizer.kind if config.optimizer.factory else 'name'}"
        raise unsupported(f"{key}: {config.optimizer.label}, whose state bitsandbytes makes on a GPU only,")
    source = open_data(config, read_files=False)
    make_shapes = source.make_shapes()

    def make_batch(n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        batch = make_shapes(n, device, dtype)
        return channels_last(batch) if config.train.channels_last else batch

    return (
        SimulatedTraining(
            build_model=lambda: build_model(config),
            workload=lambda model, device: _workload(config, model, device),
            make_batch=make_batch,
            dtype=parameter_dtype(config),
        ),
        _predicted(source.info),
    )


def _workload(config: Config, model: nn.Module, device: torch.device) -> Workload:
    criterion = criterion_of(config)
    if isinstance(criterion, nn.Module):
        ModelWithoutValues(criterion).to(device, parameter_dtype(config))
    return workload_of(config, model, criterion, device)


def _predicted(info: DataInfo) -> DataInfo:
    if info.source == "code":
        return info
    return replace(info, detail="shapes only: a prediction reads no data")
