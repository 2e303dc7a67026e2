"""DataLoaders as data: their Dataset, collate function and samplers count, and their batch size does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workload.configs import config
from tests.workload.datasets import LENGTH, LONG
from vram_cli.errors import ConfigError
from vram_cli.workload import config_key_of, open_data

HERE = "tests.workload.datasets:"
CPU = torch.device("cpu")
TAKEN = "; a DataLoader's Dataset and collate_fn, whose batch size is replaced"


def source(target: str, **keys: Any) -> Any:
    return open_data(config(data={"factory": HERE + target, **keys}))


def shapes(data: Any, n: int) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in data.make_batch(n, CPU, torch.float32)]


def test_dataset_and_collate_function_are_taken() -> None:
    data = source("loader")
    assert data.info.detail == f"the worst batch: the largest of all {LENGTH:,} samples{TAKEN}"
    assert data.info.num_samples == LENGTH
    assert shapes(data, 3) == [(3, LONG), (3,)]
    assert source("loader", collate_fn=HERE + "words_only").info.tensors[0].name == "words"


def test_loader_of_a_stream() -> None:
    data = source("stream_loader")
    assert data.info.detail == f"all 300 samples are of one size{TAKEN.replace('Dataset', 'stream')}"
    assert shapes(data, 5) == [(5, 4), (5,)]


@pytest.mark.parametrize(("target", "length"), [("loader_of_some", 100), ("loader_of_draws", 1000)])
def test_samples_that_its_sampler_draws(target: str, length: int) -> None:
    data = source(target)
    assert data.info.num_samples == length
    assert data.info.samples_measured == data.info.samples_total <= 100
    assert shapes(data, 3) == [(3, 9), (3,)]  # no sampler draws a long text


def test_samples_to_learn_from_are_those_that_its_sampler_draws() -> None:
    samples = source("loader_of_some", kwargs={"first": 3000}).indexed()
    assert samples.length == 100
    labels = samples.batch(torch.arange(100), CPU, torch.float32)[1]
    assert sorted(labels.tolist()) == list(range(3000, 3100))


def test_batches_of_a_sampler_of_batches() -> None:
    data = source("bucket_loader")
    assert data.info.detail == f"the worst batch of Buckets in an epoch{TAKEN}"
    assert shapes(data, 4) == [(4, LONG), (4,)]
    # The last bucket has what is left: one long text, and never a batch of short and long ones as large as this.
    assert shapes(data, 4999) in ([(4999, LONG), (4999,)], [(1, LONG), (1,)])
    assert data.make_shapes()(4, CPU, torch.float32)[0].shape == (4, LONG)


def test_sampler_that_takes_multiples_only() -> None:
    data = source("alternating_loader")
    assert shapes(data, 8) == [(8, 9), (8,)]
    with pytest.raises(ValueError, match="even") as caught:
        data.make_batch(7, CPU, torch.float32)
    assert config_key_of(caught.value) == "data.factory"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fixed_loader", r"the batch size of the batch_sampler ClassesAndSamples cannot be changed from 32"),
        ("loader_of_batches", r"the DataLoader has batch_size=None"),
    ],
)
def test_loaders_without_a_batch_size_to_replace(target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.factory: " + words) as caught:
        source(target)
    assert "name a function of n" in caught.value.hint
