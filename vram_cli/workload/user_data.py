"""Batches from the config's code: their number of samples, their sizes, and the shapes of batches like them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import torch

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.records import DataInfo, TensorInfo
from vram_cli.workload.batch_pattern import BatchPattern, undispatched, without_values
from vram_cli.workload.batches import Batch, lengths_of, sample_tensors, tensors_of, to_device
from vram_cli.workload.data_source import DataSource, MakeBatch
from vram_cli.workload.user_code import errors_from

_SMALL_SIZES = (2, 3, 5)
"""Batch sizes from which the sizes of others are learned."""

_NO_GPU = re.compile("NVIDIA driver|CUDA enabled|CUDA GPUs|accelerator device")
"""PyTorch's messages if a tensor is put on a GPU, or pinned for it, in a process without one."""


class UserData(DataSource):
    """Batches from code; the shapes of large ones are learned from small ones."""

    @abstractmethod
    def _make(self, n: int) -> Batch:
        """Call the code for n samples."""

    def make_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return n samples on the device.

        Raises:
            ConfigError: the code returned another number of samples, no tensors, or tensors without values.
        """
        batch = self._checked(n)
        if device.type != "meta" and any(tensor.is_meta for tensor in tensors_of(batch)):
            raise ConfigError(
                "data.factory: the batch has a tensor on the meta device, which has no values",
                "create it on the CPU: vram moves batches to the device; only predictions need no values",
            )
        return to_device(batch, device, dtype)

    def make_shapes(self) -> MakeBatch:
        """Make batches of 2, 3 and 5 samples, and return a function that makes others like them, without values.

        If those do not determine the sizes of others, the function makes the batch itself, and drops its values.
        """
        try:
            pattern = BatchPattern(*map(self._checked, _SMALL_SIZES))
        except Exception:  # noqa: BLE001 - an error of the code occurs again in the trial, for the sizes that have it
            return self._shapes_of_batch
        return lambda n, device, dtype: to_device(pattern.batch(n, device), device, dtype)

    def _shapes_of_batch(self, n: int, device: torch.device, dtype: torch.dtype) -> Batch:
        with undispatched():
            batch = self._checked(n)
        return to_device(without_values(batch, device), device, dtype)

    def _checked(self, n: int) -> Batch:
        batch = self._make(n)
        if not tensors_of(batch):
            raise ConfigError(f"data.factory: asked for a batch of {n}, got no tensor in it", "return tensors")
        return batch

    def _describe(self, config: Config, detail: str, length: int | None) -> DataInfo:
        n, batch = self._small_batch(config.train.batch_size)
        return DataInfo(
            name=str(config.data.factory),
            source="code",
            detail=detail,
            tensors=tuple(
                TensorInfo(name=name, shape=shape, dtype=_name_of(kind), follows_model=kind is torch.float32)
                for name, shape, kind in sample_tensors(batch, n)
            ),
            classes=None,
            num_samples=length,
        )

    def _small_batch(self, usual: int) -> tuple[int, Batch]:
        """Return a batch of one sample, or of the config's batch size if the code refuses one, and its size."""
        try:
            return 1, self._checked(1)
        except ConfigError:
            raise
        except Exception:
            with suppress(Exception):
                return usual, self._checked(usual)
            raise


class UserFunction(UserData):
    """Batches from a function of n."""

    def __init__(self, config: Config, function: Callable[..., Batch]) -> None:
        self._function, self._kwargs = function, config.data.kwargs
        self._key = f"data.factory ({config.data.factory})"
        self.info = self._describe(config, "a function of n", config.data.length)

    def _make(self, n: int) -> Batch:
        with errors_from(self._key):
            try:
                return self._function(n, **self._kwargs)
            except (RuntimeError, AssertionError) as error:
                if torch.cuda.is_available() or not _NO_GPU.search(str(error)):
                    raise
                raise ConfigError(
                    f"{self._key} puts its tensors on a GPU, or pins them, and this process has none",
                    "return them on the CPU: vram moves batches to the device",
                ) from error

    def _checked(self, n: int) -> Batch:
        batch = super()._checked(n)
        # A list holds samples, or fields, as a DataLoader's batch does.
        lengths = lengths_of(batch) | (lengths_of(tuple(batch)) if isinstance(batch, list) else set())
        if n in lengths or any(rows * n in _sizes(batch) for rows in self._rows_per_sample):
            return batch
        length = " and ".join(str(length) for length in sorted(lengths)) or "none"
        raise ConfigError(
            f"data.factory: asked for a batch of {n}, got one of {length}",
            "return n samples, each with the same number of rows, or an index of the rows named batch or cu_seqlens; "
            "data.num_samples says how many samples there are",
        )

    @cached_property
    def _rows_per_sample(self) -> frozenset[int]:
        """Numbers of rows, such as views or crops, that every sample has along any dimension of a tensor."""
        two, *others = ((n, _sizes(self._make(n))) for n in _SMALL_SIZES)
        candidates = {size // 2 for size in two[1] if size and size % 2 == 0}
        return frozenset(rows for rows in candidates if all(rows * n in sizes for n, sizes in others))


def _sizes(batch: Batch) -> set[int]:
    return {size for tensor in tensors_of(batch) for size in tensor.shape}


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
