"""Batches of the largest samples of a Dataset or a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import default_collate

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.workload.batches import Batch, parts_of, rebuild, tensors_of
from vram_cli.workload.data_loaders import ResizableSampler
from vram_cli.workload.data_source import IndexedSamples
from vram_cli.workload.sample_sizes import LargestSamples
from vram_cli.workload.user_code import errors_from
from vram_cli.workload.user_data import UserData


@dataclass(frozen=True)
class Samples:
    """The samples that batches are made of."""

    dataset: Any
    """The Dataset, or the samples of a stream that are kept."""
    largest: LargestSamples
    measured: int
    """Samples that were looked at."""
    total: int | None
    """Samples that there are; None if the end of a stream was not seen."""
    per_epoch: int | None
    """Samples per epoch: no batch can be larger."""
    indices: Sequence[int] | None = None
    """Those that a DataLoader's sampler draws; None for all."""
    is_stream: bool = False
    batch_sampler: ResizableSampler | None = None
    note: str = ""
    """What was taken from a DataLoader."""


class UserDataset(UserData):
    """Batches of a data set's largest samples, so that no real batch takes more memory."""

    def __init__(self, config: Config, samples: Samples, collate_fn: Callable[[list[Any]], Batch], key: str) -> None:
        self._samples, self._collate_fn, self._key = samples, collate_fn, key
        self._dataset, self._order = samples.dataset, samples.largest.order
        with errors_from(key):
            self._require_collation()
        if len(samples.largest.widest) > 1:
            self._order = self._larger(self._order, samples.largest.widest)
        info = self._describe(config, _detail(samples), config.data.length or samples.per_epoch)
        self.info = replace(info, samples_measured=samples.measured, samples_total=samples.total)

    def indexed(self) -> IndexedSamples:
        """Return the samples of the Dataset, to select from.

        Raises:
            ConfigError: they come from a stream.
        """
        if self._samples.is_stream:
            raise ConfigError(
                f"data.factory: {self.info.name} is a stream, whose samples cannot be selected", "name a Dataset"
            )
        drawn = self._samples.indices
        if drawn is None:
            return IndexedSamples(self.info.num_samples or 0, lambda indices: self._collate(indices.tolist()))
        return IndexedSamples(len(drawn), lambda indices: self._collate([drawn[i] for i in indices.tolist()]))

    def _make(self, n: int) -> Batch:
        if self._samples.batch_sampler is None or n == 1:
            return self._collate([self._order[i % len(self._order)] for i in range(n)])
        with errors_from(self._key):
            batches = self._samples.batch_sampler.batches(n)
        sizes = self._samples.largest.sizes
        padded = max(batches, key=lambda batch: len(batch) * max((sizes.get(i, 1) for i in batch), default=0))
        whole = max(batches, key=lambda batch: sum(sizes.get(i, 1) for i in batch))
        return max((self._collate(batch) for batch in (padded, whole)), key=_bytes)

    def _collate(self, indices: Sequence[int]) -> Batch:
        with errors_from(self._key):
            batch = self._collate_fn([self._dataset[i] for i in indices])
        return _lists_to_tuples(batch) if self._collate_fn is default_collate else batch

    def _larger(self, order: Sequence[int], widest: Sequence[int]) -> Sequence[int]:
        """Return the order that makes the larger batch: padding adds up the longest of each size, others do not."""
        chosen = set(widest)
        padded = [*widest, *(i for i in order if i not in chosen)]
        return max((order, padded), key=lambda indices: _bytes(self._collate(indices[: len(widest)])))

    def _require_collation(self) -> None:
        """Collate the largest and the smallest sample, which differ the most, if PyTorch's own function does it."""
        if self._collate_fn is not default_collate:
            return
        samples = [self._dataset[self._order[0]], self._dataset[self._order[-1]]]
        try:
            default_collate(samples)
        except (TypeError, RuntimeError, KeyError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise ConfigError(
                f"data.factory: PyTorch's default_collate makes no batch of its samples: {reason}",
                "name a function in data.collate_fn that makes a batch of a list of samples, as a DataLoader's does",
            ) from error


def _detail(samples: Samples) -> str:
    measured, total = samples.measured, samples.total
    if measured == total:
        looked_at = f"all {measured:,} samples"
    elif samples.is_stream:
        looked_at = f"the first {measured:,} samples of a stream"
    else:
        looked_at = f"{measured:,} random samples of {total:,}"
    what = f"the worst batch: the largest of {looked_at}" if samples.largest.differ else f"{looked_at} are of one size"
    sampler = f"the worst batch of {samples.batch_sampler.name} in an epoch" if samples.batch_sampler else ""
    return "; ".join(filter(None, (sampler or what, samples.note)))


def _bytes(batch: Batch) -> int:
    return sum(tensor.nbytes for tensor in tensors_of(batch))


def _lists_to_tuples(batch: Batch) -> Batch:
    """Turn the lists in which PyTorch's own collate puts the fields of samples into tuples; our lists hold samples.

    Its lists of texts do.
    """
    parts = parts_of(batch)
    if parts is None or (isinstance(batch, list) and all(isinstance(part, (str, bytes)) for part in batch)):
        return batch
    batch = rebuild(batch, {key: _lists_to_tuples(part) for key, part in parts.items()})
    return tuple(batch) if isinstance(batch, list) else batch
