"""Batches of any structure: moving, measuring and describing them."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from vram_cli.workload import channels_last, tensors_of
from vram_cli.workload.batches import lengths_of, sample_tensors, to_device

META = torch.device("meta")


class Pair(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Sentences:
    words: torch.Tensor
    language: str = "en"


class Encoding(UserDict[str, Any]):
    """A mapping that is not a dict, as tokenizers return."""

    encodings = "kept"


ONE, TWO = torch.ones(3, 4), torch.zeros(3, dtype=torch.int64)
BATCHES: dict[str, Any] = {
    "tensor": ONE,
    "tuple": (ONE, TWO),
    "list": [ONE, TWO],
    "dict": {"x": ONE, "y": {"z": TWO}},
    "ordered": OrderedDict(x=ONE, y=TWO),
    "default": defaultdict(list, x=ONE),
    "no dict": Encoding(x=ONE, y=TWO),
    "named": Pair(ONE, TWO),
    "dataclass": Sentences(ONE),
    "samples": ([ONE, ONE, ONE], [{"boxes": ONE, "name": "a"}] * 3),
    "with others": (ONE, "text", 3, None, 2.5),
}


@pytest.mark.parametrize("name", BATCHES)
def test_to_device_keeps_structure(name: str) -> None:
    batch = BATCHES[name]
    there = to_device(batch, META, torch.bfloat16)
    assert type(there) is type(batch)
    assert [tensor.device.type for tensor in tensors_of(there)] == ["meta"] * len(tensors_of(batch))
    assert [tensor.shape for tensor in tensors_of(there)] == [tensor.shape for tensor in tensors_of(batch)]
    assert all(tensor.device.type == "cpu" for tensor in tensors_of(batch))


def test_to_device_keeps_attributes() -> None:
    there = to_device(BATCHES["no dict"], META, torch.float32)
    assert (there.encodings, there["x"].device.type) == ("kept", "meta")
    assert to_device(BATCHES["dataclass"], META, torch.float32).language == "en"
    assert to_device(BATCHES["named"], META, torch.float32).labels.dtype is torch.int64
    assert to_device(BATCHES["default"], META, torch.float32)["new"] == []
    assert to_device(BATCHES["with others"], META, torch.float32)[1:] == ("text", 3, None, 2.5)
    assert to_device(MappingProxyType({"x": ONE}), META, torch.float32)["x"].device.type == "meta"


def test_only_float32_is_cast() -> None:
    kinds = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)
    there = to_device(tuple(torch.zeros(2, dtype=kind) for kind in kinds), META, torch.bfloat16)
    assert [tensor.dtype for tensor in there] == [torch.bfloat16, *kinds[1:]]


def test_channels_last_changes_images_only() -> None:
    images, others = channels_last((torch.zeros(2, 3, 4, 5), [torch.zeros(3, 4, 5), torch.zeros(2, 3)]))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert not images.is_contiguous()
    assert all(tensor.is_contiguous() for tensor in others)


@pytest.mark.parametrize(
    ("batch", "lengths"),
    [
        (ONE, {3}),
        ((ONE, torch.zeros(5)), {3, 5}),
        ({"x": ONE, "scale": torch.tensor(1.0)}, {3}),
        ([ONE, ONE], {2}),
        (([ONE] * 4, [{}] * 4), {4}),
        (((ONE, ONE), ({}, {})), {2, 3}),  # tuple(zip(*samples)): inner tuples hold samples
        (("a", 3, None), set()),
        (Sentences(ONE), {3}),
    ],
)
def test_lengths_of_batches(batch: Any, lengths: set[int]) -> None:
    assert lengths_of(batch) == lengths


@pytest.mark.parametrize(
    ("batch", "described"),
    [
        (torch.zeros(1, 3, 4), [("batch", (3, 4))]),
        ((torch.zeros(1, 3), torch.zeros(1)), [("[0]", (3,)), ("[1]", ())]),
        (
            {"ids": torch.zeros(1, 7), "image": {"pixels": torch.zeros(1, 2, 2)}},
            [("ids", (7,)), ("image.pixels", (2, 2))],
        ),
        (Pair(torch.zeros(1, 3), torch.zeros(1)), [("images", (3,)), ("labels", ())]),
        # Detection: lists, or tuples, of images and of what is in them.
        (([torch.zeros(3, 8, 8)], [{"boxes": torch.zeros(5, 4)}]), [("[0]", (3, 8, 8)), ("[1].boxes", (5, 4))]),
        (((torch.zeros(3, 8, 8),), ({"boxes": torch.zeros(5, 4)},)), [("[0]", (3, 8, 8)), ("[1].boxes", (5, 4))]),
        # Two inputs and a factory: the inner tuple holds fields.
        (((torch.zeros(1, 7), torch.zeros(1, 7)), torch.zeros(1)), [("[0][0]", (7,)), ("[0][1]", (7,)), ("[1]", ())]),
        ([torch.zeros(1, 3), torch.zeros(1)], [("[0]", (3,)), ("[1]", ())]),  # as a DataLoader returns it
        ({"x": torch.zeros(1, 2), "scale": torch.tensor(1.0)}, [("x", (2,)), ("scale", ())]),
    ],
)
def test_sample_tensors(batch: Any, described: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(name, shape) for name, shape, _ in sample_tensors(batch)] == described
    assert {dtype for *_, dtype in sample_tensors(batch)} == {torch.float32}


def packed(n: int) -> PackedSequence:
    return pack_sequence([torch.ones(i % 3 + 1, 4) for i in range(n)], enforce_sorted=False)


def test_packed_sequences_keep_their_lengths_on_the_cpu() -> None:
    there = to_device((packed(5), TWO), META, torch.bfloat16)[0]
    assert isinstance(there, PackedSequence)
    assert (there.data.device, there.data.dtype) == (META, torch.bfloat16)
    assert there.sorted_indices.device == META
    assert there.batch_sizes.tolist() == packed(5).batch_sizes.tolist()


@pytest.mark.filterwarnings("ignore:.*(prototype|beta).*")
@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: torch.eye(3).to_sparse(), 2),
        (lambda: torch.eye(3).to_sparse_csr(), 3),
        (lambda: torch.eye(3).to_sparse_csc(), 3),
        (lambda: torch.nested.nested_tensor([ONE, ONE[:1]], layout=torch.jagged), 2),
        (lambda: torch.nested.nested_tensor([ONE, ONE[:1]]), 1),
    ],
)
def test_sparse_and_nested_tensors(make: Callable[[], torch.Tensor], parts: int) -> None:
    batch = to_device({"x": make()}, torch.device("cpu"), torch.bfloat16)
    assert batch["x"].layout == make().layout
    assert batch["x"].dtype is torch.bfloat16
    assert len(tensors_of(batch)) == parts
    assert all(tensor.untyped_storage().nbytes() for tensor in tensors_of(batch))
    assert channels_last(batch)["x"] is batch["x"]


class Graphs:
    """A batch with a device of its own, as torch_geometric's."""

    def __init__(self, n: int) -> None:
        self.x, self.names, self._num_graphs = torch.ones(2 * n, 4), ["a"] * n, n

    def to(self, device: torch.device) -> Graphs:
        raise NotImplementedError(device)


def test_objects_that_move_are_batches() -> None:
    batch = Graphs(3)
    there = to_device(batch, META, torch.bfloat16)
    assert isinstance(there, Graphs)
    assert (there.x.device, there.x.dtype, there.names) == (META, torch.bfloat16, ["a"] * 3)
    assert batch.x.device.type == "cpu"


def test_complex_numbers_and_masks_keep_their_dtypes() -> None:
    kinds = (torch.complex64, torch.complex128, torch.bool, torch.int8)
    there = to_device([torch.zeros(2, dtype=kind) for kind in kinds], META, torch.float64)
    assert tuple(tensor.dtype for tensor in there) == kinds


@pytest.mark.parametrize(
    ("batch", "length"),
    [
        (packed(5), 5),
        (Graphs(7), 7),
        ({"x": torch.zeros(9, 2), "batch": torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])}, 3),
        ({"x": torch.zeros(9, 2), "ptr": torch.tensor([0, 3, 5, 9])}, 3),
        ({"ids": torch.zeros(1, 9), "cu_seqlens_q": torch.tensor([0, 3, 5, 9], dtype=torch.int32)}, 3),
    ],
)
def test_lengths_by_an_index(batch: Any, length: int) -> None:
    assert length in lengths_of(batch)


def test_labels_are_no_index() -> None:
    assert lengths_of({"x": torch.zeros(9, 2), "labels": torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])}) == {9}
    assert lengths_of({"batch": torch.tensor([2, 0, 1, 1])}) == {4}
