"""Data sets as people have them, for the configs of tests: texts of many lengths, streams, loaders and samplers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

LONG, LENGTH, EVERY = 150, 5000, 1999


def word_count(i: int) -> int:
    """Return the length of text i: from 2 to 9, but two in 5000 are far longer."""
    return LONG if i % EVERY == EVERY - 3 else 2 + i % 8


class Texts(Dataset[Any]):
    """Texts as tensors of words."""

    def __init__(self, length: int = LENGTH, seconds: float = 0.0) -> None:
        self.length, self.seconds, self.looks = length, seconds, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        self.looks += 1
        time.sleep(self.seconds)
        return torch.ones(word_count(i), dtype=torch.int64), i


def padded(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    words, labels = zip(*samples, strict=True)
    return pad_sequence(list(words), batch_first=True), torch.tensor(labels)


def words_only(samples: list[Any]) -> dict[str, torch.Tensor]:
    return {"words": padded(samples)[0]}


class Listed(Texts):
    """Knows the lengths of its texts."""

    @property
    def lengths(self) -> list[int]:
        return [word_count(i) for i in range(self.length)]


class ListedByMethod(Texts):
    def sizes(self) -> torch.Tensor:
        return torch.tensor([[word_count(i), 2] for i in range(self.length)])


class ListsSomethingElse(Texts):
    """Has a list as long as itself, of numbers that are no lengths."""

    @property
    def lengths(self) -> list[int]:
        return list(range(self.length))


class Table(Texts):
    """Rows with columns, as those of the datasets package."""

    column_names = ("words", "length")

    def __getitem__(self, i: Any) -> Any:
        if i == "length":
            return [word_count(j) for j in range(self.length)]
        return super().__getitem__(i)


def part_of_listed() -> Dataset[Any]:
    return Subset(Listed(), range(1000, LENGTH))


def two_listed() -> Dataset[Any]:
    return ConcatDataset([Listed(), Listed(100)])


def two_tables_of_tensors() -> Dataset[Any]:
    return ConcatDataset([TensorDataset(torch.zeros(40, 3)), random_split(TensorDataset(torch.zeros(9, 7)), [4, 5])[0]])


class Pairs(Dataset[Any]):
    """A text and its translation: the longest of each are not in one sample."""

    SIZES = ((30, 30), (50, 4), (3, 55), (2, 2))

    def __len__(self) -> int:
        return len(self.SIZES)

    def __getitem__(self, i: int) -> Any:
        return tuple(torch.ones(size) for size in self.SIZES[i])


def padded_pairs(samples: list[Any]) -> tuple[torch.Tensor, ...]:
    return tuple(pad_sequence(list(part), batch_first=True) for part in zip(*samples, strict=True))


def joined_pairs(samples: list[Any]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(part) for part in zip(*samples, strict=True))


# Streams


class Stream(IterableDataset[Any]):
    def __init__(self, length: int | None = 300) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        for i in itertools.count() if self.length is None else range(self.length):
            yield torch.full((4,), float(i)), i % 2


class TextStream(Stream):
    def __iter__(self) -> Iterator[Any]:
        return ((torch.ones(word_count(i), dtype=torch.int64), i % 2) for i in range(self.length or 0))


class RandomStream(IterableDataset[Any]):
    """Differs each time it is read."""

    def __iter__(self) -> Iterator[Any]:
        return ((torch.ones(int(torch.randint(1, 999, ()))), 0) for _ in range(50))


class StreamOfKnownLength(Stream):
    def __init__(self) -> None:
        super().__init__(None)

    def __len__(self) -> int:
        return 70


class BlockingStream(IterableDataset[Any]):
    """Waits for ever after some samples."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __iter__(self) -> Iterator[Any]:
        yield from itertools.islice(Stream(), self.after)
        threading.Event().wait()


class BrokenStream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(4), 0
        raise OSError("the disk is gone")


def generator(count: int = 5) -> Iterator[Any]:
    for _ in range(count):
        yield {"x": torch.zeros(4), "name": "a"}


# Loaders and samplers


def loader() -> DataLoader[Any]:
    return DataLoader(Texts(), batch_size=32, shuffle=True, num_workers=2, collate_fn=padded)


def stream_loader() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=32)


def loader_of_some(first: int = 0) -> DataLoader[Any]:
    return DataLoader(Texts(), batch_size=32, sampler=SubsetRandomSampler(range(first, first + 100)), collate_fn=padded)


def loader_of_draws() -> DataLoader[Any]:
    sampler = WeightedRandomSampler([1.0] * 50 + [0.0] * 4950, 1000)
    return DataLoader(Texts(), batch_size=32, sampler=sampler, collate_fn=padded)


def loader_of_batches() -> DataLoader[Any]:
    return DataLoader(Texts(), batch_size=None)


class Buckets(Sampler[list[int]]):
    """Batches of texts that are about as long; made as it is created."""

    def __init__(self, lengths: list[int], batch_size: int) -> None:
        self.lengths, self.batch_size = lengths, batch_size
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        self._batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


class Alternating:
    """Batches of as many even as odd numbers; of any even size."""

    def __init__(self, length: int) -> None:
        self.count, self.batch_size = length, 4

    def __iter__(self) -> Iterator[list[int]]:
        if self.batch_size % 2:
            raise ValueError("half of a batch is even")
        for i in range(0, self.count - self.batch_size + 1, self.batch_size):
            yield list(range(i, i + self.batch_size))


class ClassesAndSamples:
    """Batches of 4 classes with 8 samples each, whatever is asked for."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from [list(range(32))] * 3


def bucket_loader() -> DataLoader[Any]:
    lengths = [word_count(i) for i in range(LENGTH)]
    return DataLoader(Texts(), batch_sampler=Buckets(lengths, 32), collate_fn=padded)


def alternating_loader() -> DataLoader[Any]:
    return DataLoader(Texts(100), batch_sampler=Alternating(100), collate_fn=padded)


def fixed_loader() -> DataLoader[Any]:
    return DataLoader(Texts(), batch_sampler=ClassesAndSamples(), collate_fn=padded)
