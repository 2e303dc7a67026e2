"""The interface of all data: batches of exactly n samples, their shapes, and facts about them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from vram_cli.errors import ConfigError
from vram_cli.records import DataFacts, DataInfo, ImageSample, TensorFacts, TensorInfo
from vram_cli.workload.batches import Batch, to_device

MakeBatch = Callable[[int, torch.device, torch.dtype], Batch]
"""From a number of samples, a device and a dtype to a batch; float32 tensors get the dtype."""


@dataclass(frozen=True)
class IndexedSamples:
    """A data set whose samples can be selected, for training that learns something."""

    length: int
    collate: Callable[[torch.Tensor], Batch]
    """From indices, int64 (n,), to a batch of n on the CPU."""

    def batch(self, indices: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the samples at these indices, in their order, on the device; float32 tensors get the dtype."""
        return to_device(self.collate(indices), device, dtype)


class DataSource(ABC):
    """The source of batches."""

    info: DataInfo
    """A description of the batches."""

    @abstractmethod
    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device; float32 tensors get the dtype."""

    def make_shapes(self) -> MakeBatch:
        """Return a `make_batch` for fake devices, which reads no values. Call this outside of any fake tensor mode."""
        return self.make_batch

    def facts(self, batch_size: int) -> DataFacts:
        """Return all facts about the data; files are counted and measured in full."""
        return DataFacts(
            info=self.info,
            mode="",
            batch_size=batch_size,
            tensors=tuple(tensor_facts(info, batch_size) for info in self.info.tensors),
            stored=None,
            classes=(),
        )

    def samples(self, per_class: int) -> tuple[ImageSample, ...]:  # noqa: ARG002 - for sources of images
        """Return the first images of each class, class by class; empty if there are no image files."""
        return ()

    def indexed(self) -> IndexedSamples:
        """Return the samples, to select from.

        Raises:
            ConfigError: the source makes its batches up, so it has no samples.
        """
        raise ConfigError(f"data: {self.info.detail}: there is nothing to learn from synthetic samples")


class ShapesOnly(DataSource):
    """Uninitialized batches of a source's sizes, for devices on which no value is computed."""

    def __init__(self, source: DataSource) -> None:
        self._make_shapes = source.make_shapes()
        is_code = source.info.source == "code"
        self.info = source.info if is_code else replace(source.info, detail="shapes only: a prediction reads no data")

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device; float32 tensors get the dtype."""
        return self._make_shapes(n, device, dtype)


def tensor_facts(info: TensorInfo, batch_size: int) -> TensorFacts:
    """Return the bytes of a tensor per sample and per batch."""
    dtype: torch.dtype = getattr(torch, info.dtype)
    size = math.prod(info.shape) * dtype.itemsize
    return TensorFacts(info=info, sample_bytes=size, batch_bytes=size * batch_size)
