"""Batches from the config's code: a function of n, or a Dataset whose largest samples make the worst batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workload.configs import HERE, config
from vram_cli.errors import ConfigError
from vram_cli.workload import config_key_of, open_data, tensors_of, user_data

CPU, META = torch.device("cpu"), torch.device("meta")


def source(target: str, **keys: Any) -> Any:
    return open_data(config(data={"factory": HERE + target, **keys}))


def test_function_of_n() -> None:
    data = source("batch", kwargs={"width": 6}, num_samples=100)
    assert [tensor.shape for tensor in data.make_batch(5, CPU, torch.float32)] == [(5, 6), (5,)]
    assert (data.info.name, data.info.source, data.info.num_samples) == (HERE + "batch", "code", 100)
    assert [(info.name, info.shape, info.dtype) for info in data.info.tensors] == [
        ("[0]", (6,), "float32"),
        ("[1]", (), "int64"),
    ]


def test_function_that_returns_a_list() -> None:
    data = source("batch_from_a_loader")
    for n in (1, 2, 3, 8):
        images, targets = data.make_batch(n, CPU, torch.float32)
        assert (images.shape, targets.shape) == ((n, 4), (n,))
    assert [info.shape for info in data.info.tensors] == [(4,), ()]


@pytest.mark.parametrize(("target", "length"), [("dataset", 10), ("DATASET", 7), ("Sentences", 20)])
def test_datasets(target: str, length: int) -> None:
    collate = {"collate_fn": HERE + "padded"} if target == "Sentences" else {}
    data = source(target, **collate)
    assert data.info.num_samples == length
    for n in (1, 3, 2 * length + 1):
        assert {len(tensor) for tensor in tensors_of(data.make_batch(n, CPU, torch.float32))} == {n}


def test_largest_samples_make_the_worst_batch() -> None:
    data = source("Sentences", kwargs={"length": 20, "longest": 50}, collate_fn=HERE + "padded")
    assert data.make_batch(1, CPU, torch.float32)["words"].shape == (1, 50)
    words = data.make_batch(3, CPU, torch.float32)["words"]
    assert words.shape == (3, 50)
    assert (words != 0).sum(1).tolist() == [50, 7, 7]
    assert "the worst batch: the largest of all 20 samples" in data.info.detail
    assert "all 10 samples are of one size" in source("dataset").info.detail


def test_size_of_text_samples() -> None:
    texts = source("Texts", collate_fn=HERE + "longest")
    assert texts.make_batch(1, CPU, torch.float32).shape == (1, 12)
    assert "the largest of all 12" in texts.info.detail
    assert "are of one size" in source("Texts", kwargs={"images": True}, collate_fn=HERE + "longest").info.detail


def test_large_datasets_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_data, "MAX_SAMPLES_MEASURED", 100)
    data = source("Sentences", kwargs={"length": 1000}, collate_fn=HERE + "padded")
    assert data.info.detail == "the worst batch: the largest of 100 random samples of 1,000"
    again = source("Sentences", kwargs={"length": 1000}, collate_fn=HERE + "padded")
    shapes = [made.make_batch(40, CPU, torch.float32)["words"].tolist() for made in (data, again)]
    assert shapes[0] == shapes[1]  # the same samples are looked at each time


def test_sampling_stops_at_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_data, "MAX_SECONDS", -1.0)
    data = source("dataset")
    assert "1 random samples of 10" in data.info.detail
    assert len(data.make_batch(4, CPU, torch.float32)[0]) == 4


def test_default_collate_makes_tuples() -> None:
    data = source("Nested")
    (first, second), target, names = data.make_batch(4, CPU, torch.float32)
    assert (first.shape, second.shape, target.shape) == ((4, 3), (4, 5), (4,))
    assert len(names) == 4
    assert isinstance(data.make_batch(4, CPU, torch.float32)[0], tuple)


@pytest.mark.parametrize("target", ["batch", "dataset", "Nested", "batch_from_a_loader"])
def test_shapes_match_real_batches(target: str) -> None:
    chosen = config(data={"factory": HERE + target})
    make = open_data(chosen).make_shapes()
    there, here = make(1000, META, torch.float32), open_data(chosen).make_batch(1000, CPU, torch.float32)
    assert [(tensor.shape, tensor.dtype) for tensor in tensors_of(there)] == [
        (tensor.shape, tensor.dtype) for tensor in tensors_of(here)
    ]


def test_bf16_reaches_user_batches() -> None:
    data = open_data(config(data={"factory": HERE + "batch"}, precision="bf16"))
    assert data.info.tensors[0].dtype == "bfloat16"
    assert data.make_batch(2, CPU, torch.bfloat16)[0].dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("target", "keys", "words"),
    [
        ("no_tensors", {}, "asked for a batch of 1, got no tensor in it"),
        ("whole_set", {}, "gives a tuple, which is not a Dataset"),
        ("no_model", {}, "gives a str, which is not a Dataset"),
        ("linear", {}, "gives a Linear, which is not a Dataset"),
        ("NUMBER", {}, "gives a int, which is not a Dataset"),
        ("Sentences", {"kwargs": {"length": 0}}, "the Dataset is empty"),
        ("batch", {"collate_fn": HERE + "padded"}, r"data\.collate_fn: .*batch makes whole batches"),
        ("dataset", {"collate_fn": HERE + "paded"}, r"data\.collate_fn: .*has no attribute 'paded'"),
        ("nothing", {}, "has no attribute 'nothing'"),
    ],
)
def test_invalid_data_factories(target: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        source(target, **keys)
    assert caught.value.message.startswith("data.")
    assert caught.value.hint


def test_batch_of_another_length() -> None:
    data = source("too_few")
    assert len(data.make_batch(4, CPU, torch.float32)[0]) == 4
    with pytest.raises(ConfigError, match=r"data\.factory: asked for a batch of 5, got one of 4") as caught:
        data.make_batch(5, CPU, torch.float32)
    assert "data.num_samples" in caught.value.hint


def test_predictions_refuse_unpredictable_batches() -> None:
    chosen = config(data={"factory": HERE + "of_random_length"})
    with pytest.raises(ConfigError, match=r"data\.factory: a batch of 5 has .*: the sizes of larger batches") as caught:
        open_data(chosen).make_shapes()
    assert "real trials" in caught.value.hint
    assert open_data(chosen).make_batch(9, CPU, torch.float32).shape == (9, 11)


@pytest.mark.parametrize(
    ("target", "keys", "error", "key"),
    [
        ("raises_in_data", {}, OSError, "data.factory"),
        ("Broken", {}, LookupError, "data.factory"),
        ("Sentences", {"kwargs": {"lenght": 3}}, TypeError, "data.factory"),
        ("Sentences", {"collate_fn": "operator:concat"}, TypeError, "data.collate_fn"),
        ("Sentences", {}, RuntimeError, "data.factory"),  # lists of different lengths and no collate for them
    ],
)
def test_data_errors_name_their_key(target: str, keys: dict[str, Any], error: type[Exception], key: str) -> None:
    with pytest.raises(error) as caught:
        source(target, **keys).make_batch(3, CPU, torch.float32)
    assert config_key_of(caught.value).startswith(key)


def test_size_parameter_of_another_name() -> None:
    settings = config(data={"factory": HERE + "of_m_samples"})
    with pytest.raises(ConfigError, match="needs 'm'") as caught:
        open_data(settings)
    assert "n or batch_size" in caught.value.hint
