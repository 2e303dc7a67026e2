"""Shapes of batches, learned from three small ones: right for every n, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_sequence

from vram_cli.errors import UnsupportedError
from vram_cli.workload.batch_pattern import BatchPattern, without_values
from vram_cli.workload.batches import leaves_of

META = torch.device("meta")
Make = Callable[[int], Any]


class Two(NamedTuple):
    first: Any
    second: Any


DTYPES = st.sampled_from([torch.float32, torch.int64, torch.bool])
OTHERS = st.sampled_from(["text", None, 7, 0.5, True])
SIZES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=3)
"""Sizes of a tensor: (a, b) is a * n + b."""


@st.composite
def tensors(draw: st.DrawFn) -> Make:
    sizes, dtype = draw(SIZES), draw(DTYPES)
    return lambda n: torch.empty([a * n + b for a, b in sizes], dtype=dtype, device=META)


def gathered(parts: st.SearchStrategy[list[Make]]) -> st.SearchStrategy[Make]:
    """Structures of parts, and lists of n samples, each like the part at n = 1."""

    def kinds(made: list[Make]) -> list[Make]:
        return [
            lambda n: tuple(part(n) for part in made),
            lambda n: [part(n) for part in made],
            lambda n: {f"key{i}": part(n) for i, part in enumerate(made)},
            lambda n: Two(made[0](n), made[-1](n)),
            lambda n: [made[0](1) for _ in range(n)],
            lambda n: {"samples": tuple(made[0](1) for _ in range(n))},
        ]

    return parts.flatmap(lambda made: st.sampled_from(kinds(made)))


MAKERS = st.recursive(
    tensors() | OTHERS.map(lambda other: lambda _: other) | st.just(lambda n: n),
    lambda inner: gathered(st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


def described(batch: Any) -> Any:
    """Return a batch with each tensor replaced by its shape and dtype."""
    if isinstance(batch, torch.Tensor):
        return tuple(batch.shape), batch.dtype
    if isinstance(batch, dict):
        return {key: described(part) for key, part in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch), [described(part) for part in batch]
    return batch


@settings(max_examples=200, deadline=None)
@given(make=MAKERS, n=st.integers(1, 40))
def test_pattern_predicts_real_batches(make: Make, n: int) -> None:
    pattern = BatchPattern(make(2), make(3), make(5))
    assert described(pattern.batch(n, META)) == described(make(n))


def test_batches_are_new_and_on_the_device() -> None:
    pattern = BatchPattern(*({"x": torch.ones(n, 4)} for n in (2, 3, 5)))
    assert all(tensor.device == META for tensor in leaves_of(pattern.batch(10**9, META)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda n: torch.zeros(n * n),
            r"a batch of 5 has float32 \[25\], but .* suggest float32 \[19\]",
        ),
        (lambda n: torch.zeros(n, {2: 17, 3: 23, 5: 19}[n]), r"\[5, 19\]"),  # lengths drawn at random
        (lambda n: torch.zeros(n, max(0, 9 - 4 * (n - 2))), "becomes negative"),
        (lambda n: torch.zeros(n, dtype=torch.int64 if n > 2 else torch.int32), r"int32 \[2\] and int64 \[3\]"),
        (lambda n: torch.zeros([n] * n), r"\[2, 2\] and float32 \[3, 3, 3\]"),
        (lambda n: {"x": torch.zeros(n), f"of {n}": 1}, "a dict of x, of 2 and a dict of x, of 3"),
        (lambda n: (torch.zeros(n), n * n), "4 and 9"),
        (lambda n: (torch.zeros(n), n > 2), "False and True"),
        (lambda n: [torch.zeros(n)] if n > 2 else (torch.zeros(n),), "a tuple of 1 and a list of 1"),
        (lambda n: [torch.zeros(3)] * (n + 1), "a list of 3 and a list of 4"),
        (lambda n: [torch.zeros(3, 10 * i) for i in range(n)], "samples of one batch differ in size"),
        (lambda n: (torch.zeros(n), np.zeros(n)), "a batch holds a ndarray"),
        (lambda n: torch.eye(n).to_sparse(), "a batch holds a Tensor whose sizes depend on its values"),
        (lambda n: pack_sequence([torch.zeros(3, 2)] * n), "a batch holds a PackedSequence whose sizes depend"),
    ],
)
def test_unpredictable_batches_are_refused(make: Make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchPattern(make(2), make(3), make(5))


def test_numbers_and_names_in_samples() -> None:
    made = [[{"image": torch.zeros(3, 8, 8), "number": i, "name": f"{i}.png"} for i in range(n)] for n in (2, 3, 5)]
    batch = BatchPattern(*made).batch(7, META)
    assert [tuple(sample["image"].shape) for sample in batch] == [(3, 8, 8)] * 7


def test_fake_tensors_refuse_sparse_ones_by_name() -> None:
    batch = {"x": torch.eye(3).to_sparse(), "y": torch.zeros(3)}
    assert without_values(batch, torch.device("cpu"))["x"].layout is torch.sparse_coo
    with FakeTensorMode(), pytest.raises(UnsupportedError, match=r"data\.factory: a sparse tensor in a batch"):
        without_values(batch, torch.device("cpu"))
