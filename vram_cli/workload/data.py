"""Where batches of exactly n samples come from: named images, tensors that the config declares, or its own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from vram_cli.config import Config
from vram_cli.records import DataInfo
from vram_cli.workload.batches import Batch
from vram_cli.workload.declared_data import declared
from vram_cli.workload.image_data import ImageData, open_images
from vram_cli.workload.user_data import UserData, from_code


class DataSource(Protocol):
    """Where batches come from."""

    @property
    def info(self) -> DataInfo:
        """What the batches are made of."""

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device; what is float32 is made of `dtype`."""


def open_data(config: Config, *, download: bool = False) -> Any:
    """Find the data that the config speaks of; returns a `DataSource`.

    Raises:
        ConfigError: `source: files` and there are none that torchvision can read, or the config's code is not usable.
    """
    if config.data.factory is not None:
        return from_code(config)
    if config.data.inputs is not None:
        return declared(config)
    return open_images(config, download=download)


def shapes_only(config: Config) -> tuple[Callable[[int, torch.device, torch.dtype], Batch], DataInfo]:
    """Return what makes batches of the right shapes on fake devices, and what they stand for; no files are read.

    Raises:
        ConfigError: as `open_data`.
    """
    if config.data.name not in (None, "synthetic"):
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": "synthetic"})})
    known: DataSource = open_data(config)
    return shapes_of(config, known), known.info


def shapes_of(config: Config, source: DataSource) -> Callable[[int, torch.device, torch.dtype], Batch]:
    """Return what makes batches of the same shapes as a source that is open, on fake devices.

    Raises:
        ConfigError: code makes the batches, and from two of them nobody can tell what others are like.
    """
    if isinstance(source, UserData):
        source.learn()
        return source.make_shapes
    if isinstance(source, ImageData) and source.files is not None:
        return shapes_only(config)[0]
    return source.make_batch
