"""Chosen samples of real data, for training that learns something: by their places in the data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from vram_cli.errors import ConfigError
from vram_cli.workload.batches import Batch, moved
from vram_cli.workload.data import DataSource
from vram_cli.workload.image_data import ImageData
from vram_cli.workload.user_data import UserData


@dataclass(frozen=True)
class Indexed:
    """A data set whose samples can be chosen."""

    length: int
    join: Callable[[torch.Tensor], Batch]
    """From places, int64 (n,), to a batch of n on the CPU."""

    def batch(self, places: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the samples at these places, in their order, on the device; what is float32 is made of `dtype`."""
        return moved(self.join(places), device, dtype)


def indexed(source: DataSource) -> Indexed:
    """Return the samples of a source.

    Raises:
        ConfigError: it has none of its own, since its batches are made up.
    """
    length = source.info.num_samples
    if isinstance(source, ImageData) and source.files is not None:
        files = source.files
        return Indexed(len(files.images), lambda places: (files.normalised(places), files.targets[places]))
    if isinstance(source, UserData) and source.joined is not None and length is not None:
        joined = source.joined
        return Indexed(length, lambda places: joined(places.tolist()))
    raise ConfigError(f"data: {source.info.detail}: there is nothing to learn from synthetic samples")
