"""Streams: IterableDatasets and generators, that end or do not, block, or differ each time."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from tests.workload.configs import config
from tests.workload.datasets import LONG
from vram_cli.errors import ConfigError
from vram_cli.workload import config_key_of, open_data, streams

HERE = "tests.workload.datasets:"
CPU = torch.device("cpu")


def source(target: str, **keys: Any) -> Any:
    return open_data(config(data={"factory": HERE + target, **keys}))


def test_end_of_a_stream_is_counted_and_samples_repeat() -> None:
    data = source("Stream", kwargs={"length": 300})
    assert (data.info.num_samples, data.info.samples_measured, data.info.samples_total) == (300, 300, 300)
    assert data.info.detail == "all 300 samples are of one size"
    for n in (1, 300, 700):
        assert [tensor.shape for tensor in data.make_batch(n, CPU, torch.float32)] == [(n, 4), (n,)]
    assert data.make_shapes()(1000, CPU, torch.float32)[0].shape == (1000, 4)


def test_endless_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAM_SAMPLES", 1000)
    data = source("Stream", kwargs={"length": None})
    assert (data.info.num_samples, data.info.samples_measured, data.info.samples_total) == (None, 1000, None)
    assert data.info.detail == "the first 1,000 samples of a stream are of one size"


def test_config_says_how_many_samples_an_endless_stream_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAM_SAMPLES", 10)
    assert source("Stream", kwargs={"length": None}, num_samples=99).info.num_samples == 99


def test_length_of_a_stream_is_its_end() -> None:
    info = source("StreamOfKnownLength").info
    assert (info.num_samples, info.samples_measured) == (70, 70)


def test_largest_samples_of_a_stream_make_the_worst_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_SAMPLES_MEASURED", 10)
    data = source("TextStream", kwargs={"length": 5000}, collate_fn=HERE + "padded")
    words = data.make_batch(4, CPU, torch.float32)[0]
    assert (words != 0).sum(1).tolist() == [LONG, LONG, 9, 9]
    assert data.info.detail == "the worst batch: the largest of all 5,000 samples"


def test_samples_that_are_kept_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MAX_KEPT_BYTES", 400)
    data = source("Stream")
    assert data.info.samples_measured == 300
    assert data.make_batch(500, CPU, torch.float32)[0].shape == (500, 4)


def test_random_stream_makes_one_batch() -> None:
    data, other = (source("RandomStream", collate_fn=HERE + "padded") for _ in range(2))
    first, second = (data.make_batch(20, CPU, torch.float32)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, other.make_batch(20, CPU, torch.float32)[0])  # as in another worker process


def test_generators_are_streams() -> None:
    data = source("generator", kwargs={"count": 7})
    assert data.info.num_samples == 7
    assert data.make_batch(20, CPU, torch.float32)["name"] == ["a"] * 20


def test_blocking_streams_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_SAMPLE_SECONDS", 0.2)
    monkeypatch.setattr(streams, "MAX_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"data\.factory: .*BlockingStream: the stream gives no sample within 0 s"):
        source("BlockingStream", kwargs={"after": 0})
    info = source("BlockingStream", kwargs={"after": 3}).info
    assert (info.samples_measured, info.num_samples) == (3, None)
    assert time.monotonic() - start < 5


def test_errors_of_streams_name_their_key() -> None:
    with pytest.raises(OSError, match="disk") as caught:
        source("BrokenStream")
    assert config_key_of(caught.value) == "data.factory"
    with pytest.raises(ConfigError, match=r"data\.factory: .*Stream: the stream ends without a sample"):
        source("Stream", kwargs={"length": 0})


def test_samples_of_a_stream_cannot_be_selected() -> None:
    with pytest.raises(ConfigError, match=r"data\.factory: .*is a stream"):
        source("Stream").indexed()
