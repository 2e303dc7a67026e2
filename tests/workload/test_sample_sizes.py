"""Which samples are the largest: all are looked at if that takes seconds, or a list of lengths is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from tests.workload import datasets
from tests.workload.configs import config
from tests.workload.datasets import EVERY, LENGTH, LONG, Listed, ListedByMethod, ListsSomethingElse, Table, Texts
from vram_cli.workload import open_data, sample_sizes
from vram_cli.workload.sample_sizes import largest_samples, size_of

CPU = torch.device("cpu")
LONGEST = [i for i in range(LENGTH) if i % EVERY == EVERY - 3]


def test_all_samples_are_looked_at() -> None:
    largest = largest_samples(Texts())
    assert list(largest.order[:2]) == LONGEST
    assert len(largest.sizes) == LENGTH
    assert largest.differ


def test_slow_samples_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_sizes, "MAX_SAMPLES_MEASURED", 100)
    monkeypatch.setattr(sample_sizes, "MAX_SECONDS", 0.5)
    slow = Texts(seconds=0.001)
    assert len(largest_samples(slow).sizes) == 100
    assert slow.looks == 100
    assert largest_samples(slow).order == largest_samples(slow).order  # the same samples each time


def test_one_sample_is_looked_at_whatever_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_sizes, "MAX_SECONDS", -1.0)
    assert len(largest_samples(Texts()).sizes) == 1


@pytest.mark.parametrize("make", [Listed, ListedByMethod, Table, datasets.part_of_listed, datasets.two_listed])
def test_listed_lengths_replace_a_look(make: Callable[[], Any]) -> None:
    dataset = make()
    largest = largest_samples(dataset)
    assert len(largest.sizes) == len(dataset)
    assert len(dataset[largest.order[0]][0]) == LONG
    inner = getattr(dataset, "dataset", dataset)
    assert getattr(inner, "looks", 0) < 200


def test_lists_that_samples_contradict_are_not_believed() -> None:
    dataset = ListsSomethingElse()
    assert list(largest_samples(dataset).order[:2]) == LONGEST
    assert dataset.looks > LENGTH


def test_tensors_of_several_sizes() -> None:
    dataset = datasets.two_tables_of_tensors()
    assert largest_samples(dataset).order[:4] == [40, 41, 42, 43]


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.broadcast_to(np.float32(0), (10**8, 4)),
        lambda: TensorDataset(torch.zeros(1).expand(10**8)),
        lambda: Subset(TensorDataset(torch.zeros(1).expand(10**8)), range(10**8)),
    ],
)
def test_rows_of_an_array_are_not_looked_at(make: Callable[[], Any]) -> None:
    largest = largest_samples(make())
    assert (len(largest.order), largest.differ) == (10**8, False)


def test_selected_samples_only() -> None:
    largest = largest_samples(Texts(), [5, 7, 6])
    assert sorted(largest.order) == [5, 6, 7]
    assert largest.order[0] == 7


@pytest.mark.parametrize(
    ("sample", "size"),
    [
        (torch.zeros(3, 4), 48 + 1),
        ((np.zeros(5), 1, None), 40 + 3),
        ({"text": "words", "label": 3}, 5 + 2),
        ([1] * 50, 50),
        ({"ids": [1] * 50, "pixels": torch.zeros(2)}, 8 + 51),
        (Image.new("RGB", (20, 10)), 600 + 1),
        ([{"boxes": torch.zeros(5, 4)}, {"boxes": torch.zeros(1, 4)}], 96 + 2),
        (torch.eye(3).to_sparse(), 3 * (16 + 4) + 1),
    ],
)
def test_sizes_of_samples(sample: Any, size: int) -> None:
    assert size_of(sample).order[0] == size


@pytest.mark.parametrize(("collate", "order"), [("padded_pairs", [50, 55]), ("joined_pairs", [83, 89])])
def test_longest_of_each_part(collate: str, order: list[int]) -> None:
    """Padding adds up the longest of each part, whichever sample has it; what is joined does not."""
    data = {"factory": "tests.workload.datasets:Pairs", "collate_fn": f"tests.workload.datasets:{collate}"}
    batch = open_data(config(data=data)).make_batch(3, CPU, torch.float32)
    assert [tensor.shape[-1] for tensor in batch] == order
