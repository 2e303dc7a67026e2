"""Batches from the config's code: a function of n, or a Dataset whose largest samples make the worst batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import default_collate

from tests.workload.configs import HERE, config
from vram_cli.errors import ConfigError
from vram_cli.workload import config_key_of, open_data, tensors_of

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
    assert data.info.for_model("bfloat16").tensors[0].dtype == "bfloat16"
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


@pytest.mark.parametrize("target", ["of_random_length", "pairs_only", "ragged"])
def test_batches_of_unpredictable_sizes_are_made(target: str) -> None:
    data = source(target)
    with FakeTensorMode():
        shapes = [tensor.shape for tensor in tensors_of(data.make_shapes()(8, CPU, torch.float32))]
    assert shapes == [tensor.shape for tensor in tensors_of(data.make_batch(8, CPU, torch.float32))]


@pytest.mark.parametrize(
    ("target", "rows", "shape"), [("two_views", 6, (2, 4)), ("words_first", 7, (7, 1, 4)), ("graphs", 6, (4,))]
)
def test_rows_that_are_not_samples(target: str, rows: int, shape: tuple[int, ...]) -> None:
    data = source(target)
    assert len(tensors_of(data.make_batch(3, CPU, torch.float32))[0]) == rows
    assert data.info.tensors[0].shape == shape


def test_function_that_refuses_one_sample() -> None:
    data = source("pairs_only")
    assert [info.shape for info in data.info.tensors] == [(4,)]
    with pytest.raises(ValueError, match="pairs") as caught:
        data.make_batch(3, CPU, torch.float32)
    assert config_key_of(caught.value).startswith("data.factory")


def test_tensors_without_values() -> None:
    data = source("on_meta")
    assert data.make_shapes()(9, CPU, torch.float32).device == CPU
    with pytest.raises(ConfigError, match=r"data\.factory: the batch has a tensor on the meta device") as caught:
        data.make_batch(9, CPU, torch.float32)
    assert "CPU" in caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="the code is right if there is a GPU")
@pytest.mark.parametrize("target", ["on_gpu", "pinned"])
def test_tensors_on_a_gpu_that_is_not_there(target: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.factory .* puts its tensors on a GPU, or pins them") as caught:
        source(target)
    assert "CPU" in caught.value.hint


@pytest.mark.parametrize("target", ["Sentences", "WithNone", "Ragged"])
def test_samples_that_pytorch_cannot_collate(target: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.factory: PyTorch's default_collate makes no batch") as caught:
        source(target)
    assert "data.collate_fn" in caught.value.hint


def test_texts_of_samples_are_as_pytorch_collates_them() -> None:
    samples = [{"x": torch.zeros(2), "names": f"name {i}"} for i in range(3)]
    data = source("records")
    assert data.make_batch(3, CPU, torch.float32)["names"] == default_collate(samples)["names"]


def test_mapping_of_datasets_names_its_parts() -> None:
    with pytest.raises(ConfigError, match="gives a dict, which is not a Dataset") as caught:
        source("splits")
    assert "train, test" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "keys", "error", "key"),
    [
        ("raises_in_data", {}, OSError, "data.factory"),
        ("Broken", {}, LookupError, "data.factory"),
        ("Sentences", {"kwargs": {"lenght": 3}}, TypeError, "data.factory"),
        ("Sentences", {"collate_fn": "operator:concat"}, TypeError, "data.collate_fn"),
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
