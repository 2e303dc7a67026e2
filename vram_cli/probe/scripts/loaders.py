"""The DataLoaders of a script: which one trains, with which batch size, and how to give it another one."""

from __future__ import annotations

import copy
import functools
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler
from torch.utils.data import dataloader as torch_dataloader
from torch.utils.data._utils import fetch as torch_fetch

from vram_cli.user_lines import own_line

DISTINCT_SAMPLES = 64
"""Samples that a prediction reads for a batch: memory does not depend on their values, and reading takes time."""


@dataclass(frozen=True, kw_only=True)
class LoaderPlan:
    """The changes to make to the loaders of one run."""

    training: tuple[str, ...] = ()
    """Keys of the loaders that train; empty if not known yet."""
    batch_size: int | None = None
    """The batch size to give them; None keeps the script's."""
    batches: int | None = None
    """Batches per epoch, exactly; None for those of the data set."""
    least_batches: int = 1
    """Batches per epoch, at least, so that no epoch ends within a trial."""
    order: tuple[int, ...] = ()
    """Samples to make batches of, again and again; empty for those of the script's sampler."""
    repeats_samples: bool = False
    """Whether a few samples stand for all of a batch."""


@dataclass(kw_only=True)
class Loader:
    """A DataLoader of the script."""

    key: str
    """Line and number of those made there, which tell the same loader in another run."""
    line: str
    batch_size: int | None
    dataset: Any
    is_shuffled: bool
    obstacle: str = ""
    """Why its batch size cannot be set; "" if it can."""
    batches: int = 0
    """Batches given so far."""
    backwards: int = 0
    """Backward passes that followed its batches."""

    @property
    def num_samples(self) -> int | None:
        """Length of the data set; None if it has none."""
        try:
            return None if isinstance(self.dataset, IterableDataset) else len(self.dataset)
        except TypeError:
            return None


class FullBatches(BatchSampler):
    """Batches of one size, again and again from the same samples: none is the short last one of an epoch."""

    def __init__(self, sampler: Any, batch_size: int, plan: LoaderPlan) -> None:
        super().__init__(sampler, batch_size, False)
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch of an epoch."""
        indices = self._indices()
        for _ in range(len(self)):
            batch = list(islice(indices, self.batch_size))
            if not batch:
                return
            yield batch

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        if self._plan.batches is not None:
            return self._plan.batches
        try:
            own = -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]
        except TypeError:
            own = 0
        return max(own, self._plan.least_batches)

    def _indices(self) -> Iterator[int]:
        if self._plan.order:
            return cycle(self._plan.order)
        if self._plan.repeats_samples:
            return cycle(list(islice(iter(self.sampler), DISTINCT_SAMPLES)))
        return self._endlessly()

    def _endlessly(self) -> Iterator[int]:
        is_empty = False
        while not is_empty:
            is_empty = True
            for index in self.sampler:
                is_empty = False
                yield index


class RepeatedBatches(BatchSampler):
    """The batches of a script's own batch sampler, again and again, without those that are smaller than the first."""

    def __init__(self, batches: Any, plan: LoaderPlan) -> None:
        super().__init__(getattr(batches, "sampler", ()), getattr(batches, "batch_size", None) or 1, False)
        self._batches, self._plan = batches, plan

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch of an epoch."""
        yield from islice(self._endlessly(), len(self))

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        if self._plan.batches is not None:
            return self._plan.batches
        return max(len(self._batches) if hasattr(self._batches, "__len__") else 0, self._plan.least_batches)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the script's batch sampler, such as a method that sets the epoch."""
        return getattr(self.__dict__["_batches"], name)

    def _endlessly(self) -> Iterator[list[int]]:
        size = 0
        while True:
            before = size
            for batch in self._batches:
                size = size or len(batch)
                if len(batch) >= size:
                    yield batch
            if not before and not size:
                return


@dataclass(kw_only=True)
class Loaders:
    """Follows the loaders of a script, and changes those of a plan.

    `on_next` is called as the next batch of a loader is asked for.
    """

    plan: LoaderPlan
    on_next: Callable[[Loader], None]
    all: list[Loader] = field(default_factory=list)
    _of: weakref.WeakKeyDictionary[Any, Loader] = field(default_factory=weakref.WeakKeyDictionary)
    _of_batches: dict[int, Loader] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)
    """Batch samplers, whose ids stay theirs."""
    _at_line: Counter[str] = field(default_factory=Counter)
    _recent: list[Loader] = field(default_factory=list)
    """Loaders that gave a batch since the last forward pass of a whole model."""
    _used: list[Loader] = field(default_factory=list)
    """Loaders whose batches went through a forward pass with gradients since the last backward pass."""

    def install(self) -> None:
        """Follow all loaders from now on. Nothing takes this back: the process ends with the trial."""
        make, start = DataLoader.__init__, torch_dataloader._BaseDataLoaderIter.__init__
        give, loaders = torch_dataloader._BaseDataLoaderIter.__next__, self

        @functools.wraps(make)  # Lightning reads the names of the arguments
        def init(  # noqa: PLR0917 - as DataLoader's own
            loader: Any,
            dataset: Any,
            batch_size: int | None = 1,
            shuffle: bool | None = None,
            sampler: Any = None,
            batch_sampler: Any = None,
            *rest: Any,
            **options: Any,
        ) -> None:
            known = loaders._of_batches.get(id(batch_sampler))
            entry = known or loaders._add(dataset, batch_size, shuffle, sampler, batch_sampler)
            if known is None and loaders._sets_size(entry) and batch_sampler is None:
                batch_size = loaders.plan.batch_size
            make(loader, dataset, batch_size, shuffle, sampler, batch_sampler, *rest, **options)
            loaders._made(loader, entry)

        def iter_init(iterator: Any, loader: Any) -> None:
            iterator._vram_loader = loaders._of.get(loader)
            start(iterator, loader)

        def next_batch(iterator: Any) -> Any:
            entry: Loader | None = iterator._vram_loader
            if entry is not None:
                loaders.on_next(entry)
            batch = give(iterator)
            if entry is not None:
                entry.batches += 1
                loaders._recent.append(entry)
            return batch

        DataLoader.__init__ = init  # type: ignore[method-assign, assignment]
        torch_dataloader._BaseDataLoaderIter.__init__ = iter_init  # type: ignore[method-assign, assignment]
        torch_dataloader._BaseDataLoaderIter.__next__ = next_batch  # type: ignore[method-assign, assignment]
        if self.plan.repeats_samples:
            torch_fetch._MapDatasetFetcher.fetch = _fetch_distinct  # type: ignore[method-assign]
            torch_fetch._IterableDatasetFetcher.fetch = _fetch_few  # type: ignore[method-assign]

    def model_runs(self, *, with_gradients: bool, is_training: bool) -> None:
        """Note that a whole model runs on the batches given since it last did."""
        if with_gradients:
            self._used += self._recent
        if with_gradients or not is_training:
            self._recent.clear()

    def backward_runs(self) -> None:
        """Note that the batches which went through forward passes are trained on."""
        for entry in {id(entry): entry for entry in self._used}.values():
            entry.backwards += 1
        self._used.clear()

    def training(self) -> list[Loader]:
        """Return the loaders whose batches were trained on, and not just read once before the first step."""
        most = max((entry.backwards for entry in self.all), default=0)
        return [entry for entry in self.all if 2 * entry.backwards > most]

    def _add(self, dataset: Any, batch_size: int | None, shuffle: Any, sampler: Any, batches: Any) -> Loader:
        line = own_line(sys._getframe(1))
        source = sampler if sampler is not None else getattr(batches, "sampler", None)
        entry = Loader(
            key=f"{line}#{self._at_line[line]}",
            line=line,
            batch_size=batch_size if batches is None else getattr(batches, "batch_size", None),
            dataset=dataset,
            is_shuffled=bool(shuffle) or not (source is None or isinstance(source, SequentialSampler)),
            obstacle=_obstacle(dataset, batch_size, batches),
        )
        self._at_line[line] += 1
        self.all.append(entry)
        return entry

    def _sets_size(self, entry: Loader) -> bool:
        return self.plan.batch_size is not None and entry.key in self.plan.training and not entry.obstacle

    def _made(self, loader: Any, entry: Loader) -> None:
        self._of[loader] = entry
        batches = loader.batch_sampler
        if batches is not None and id(batches) not in self._of_batches:
            if entry.key in self.plan.training:
                batches = self._repeated(entry, batches)
                # DataLoader forbids this, because a running iterator would not notice; there is none yet.
                object.__setattr__(loader, "batch_sampler", batches)
            self._of_batches[id(batches)] = entry
            self._kept.append(batches)

    def _repeated(self, entry: Loader, batches: Any) -> BatchSampler:
        if type(batches) is not BatchSampler:
            return RepeatedBatches(batches, self.plan)
        size = self.plan.batch_size if self._sets_size(entry) else batches.batch_size
        return FullBatches(batches.sampler, int(size or 1), self.plan)


def _obstacle(dataset: Any, batch_size: int | None, batches: Any) -> str:
    """Return why the batch size of a loader cannot be set; "" if it can."""
    if batches is not None and type(batches) is not BatchSampler:
        return f"its batch sampler is the script's own ({type(batches).__name__})"
    if batches is None and batch_size is None:
        return f"its data set ({type(dataset).__name__}) makes batches itself"
    return ""


def _fetch_distinct(fetcher: Any, indices: Any) -> Any:
    """Read each sample of a batch once; batches of a prediction repeat a few."""
    if not fetcher.auto_collation:
        return fetcher.collate_fn(fetcher.dataset[indices])
    distinct = list(dict.fromkeys(indices))
    many = getattr(fetcher.dataset, "__getitems__", None)
    read: Sequence[Any] = many(distinct) if many else [fetcher.dataset[index] for index in distinct]
    if not isinstance(read, list) or len(read) != len(distinct):  # the data set has made a batch of them
        return fetcher.collate_fn(many(indices) if many else read)
    samples = dict(zip(distinct, read, strict=True))
    # Collate functions may take items out of the containers that they get.
    return fetcher.collate_fn([_own_container(samples[index]) for index in indices])


def _fetch_few(fetcher: Any, indices: Any) -> Any:
    """Read a few samples of a stream for each batch, and repeat them."""
    if not fetcher.auto_collation:
        return fetcher.collate_fn(next(fetcher.dataset_iter))
    samples = list(islice(fetcher.dataset_iter, min(len(indices), DISTINCT_SAMPLES)))
    if not samples:
        fetcher.ended = True
        raise StopIteration
    return fetcher.collate_fn([_own_container(sample) for sample in islice(cycle(samples), len(indices))])


def _own_container(sample: Any) -> Any:
    return copy.copy(sample) if isinstance(sample, (dict, list)) else sample
