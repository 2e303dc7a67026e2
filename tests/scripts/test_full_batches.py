"""Batches of the loaders that train: full, from the sampler's own indices, and as many as promised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler

from vram_cli.probe.scripts.loaders import DISTINCT_SAMPLES, FullBatches, LoaderPlan, RepeatedBatches

lengths = st.integers(1, 300)
sizes = st.integers(1, 500)
leasts = st.integers(1, 12)
exactly = st.none() | st.integers(1, 12)


class Stream:
    """A sampler without a length; each of its epochs has other indices."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(range(1000 * self.epoch, 1000 * self.epoch + self.length))


@given(lengths, sizes, leasts, exactly)
def test_batches_are_full_and_follow_the_sampler(length: int, size: int, least: int, batches: int | None) -> None:
    epoch = FullBatches(SequentialSampler(range(length)), size, LoaderPlan(least_batches=least, batches=batches))
    own = -(-length // size)
    assert len(epoch) == (batches or max(own, least))
    given_out = list(epoch)
    assert [len(batch) for batch in given_out] == [size] * len(epoch)
    assert [*chain(*given_out)] == [i % length for i in range(size * len(epoch))]


@given(lengths, sizes, leasts)
def test_a_sampler_without_a_length_is_begun_anew(length: int, size: int, least: int) -> None:
    epoch = FullBatches(Stream(length), size, LoaderPlan(least_batches=least))
    assert len(epoch) == least
    indices = [*chain(*epoch)]
    assert indices == [1000 * (1 + i // length) + i % length for i in range(size * least)]


@given(lengths, sizes, st.permutations(range(7)))
def test_the_largest_samples_make_each_batch(length: int, size: int, order: list[int]) -> None:
    first, second = FullBatches(Stream(length), size, LoaderPlan(order=tuple(order), least_batches=2, batches=2))
    assert first[:7] == order[:size]
    assert set(first + second) == {*order} if size >= 7 else len(second) == size


@given(lengths, sizes)
def test_a_prediction_repeats_a_few_samples(length: int, size: int) -> None:
    batch = next(iter(FullBatches(Stream(length), size, LoaderPlan(repeats_samples=True))))
    distinct = min(length, DISTINCT_SAMPLES)
    assert batch == [1000 + i % distinct for i in range(size)]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=9), leasts, exactly)
def test_batches_of_an_own_sampler_are_no_smaller_than_its_first(
    sizes: list[int], least: int, batches: int | None
) -> None:
    own = [[100 * i + j for j in range(size)] for i, size in enumerate(sizes)]
    epoch = RepeatedBatches(own, LoaderPlan(least_batches=least, batches=batches))
    assert len(epoch) == (batches or max(len(own), least))
    kept = [batch for batch in own if len(batch) >= sizes[0]]
    assert list(epoch) == [kept[i % len(kept)] for i in range(len(epoch))]


def test_samplers_that_give_nothing_end() -> None:
    plan = LoaderPlan(least_batches=3)
    assert list(FullBatches(Stream(0), 4, plan)) == []
    assert list(RepeatedBatches([], plan)) == []


def test_an_own_sampler_keeps_its_methods() -> None:
    class Epochs(BatchSampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    own = Epochs(SequentialSampler(range(8)), 3, drop_last=False)
    epoch = RepeatedBatches(own, LoaderPlan(least_batches=5))
    epoch.set_epoch(4)
    assert own.epoch == 4
    assert list(islice(epoch, 3)) == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    with pytest.raises(AttributeError, match="nowhere"):
        epoch.nowhere  # noqa: B018
