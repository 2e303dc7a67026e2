"""The shapes of batches of any size, learned from small ones, without calling the code that makes batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import _disable_current_modes

from vram_cli.errors import REAL_TRIALS, UnsupportedError
from vram_cli.workload.batches import Batch, is_plain, map_tensors, parts_of, rebuild, tensors_of


class BatchPattern:
    """The structure that batches have in common; every size is linear in n.

    Args:
        two: a batch of 2 samples.
        three: a batch of 3.
        five: a batch of 5, to check the lines.

    Raises:
        ValueError: the batches do not determine larger ones.
    """

    def __init__(self, two: Batch, three: Batch, five: Batch) -> None:
        self._two, self._three = two, three
        expected = map(_format_shape, tensors_of(self.batch(5, torch.device("meta"))))
        for shape, actual in zip_longest(expected, map(_format_shape, tensors_of(five))):
            if shape != actual:
                raise ValueError(f"a batch of 5 has {actual}, but batches of 2 and 3 suggest {shape}")

    def batch(self, n: int, device: torch.device) -> Batch:
        """Return an uninitialized batch of n samples on the device."""
        return _extrapolate(self._two, self._three, n, device)


@contextmanager
def undispatched() -> Iterator[None]:
    """Run code on real tensors, within a prediction too."""
    with _disable_current_modes():
        yield


def without_values(batch: Batch, device: torch.device) -> Batch:
    """Return an uninitialized batch of the same sizes; sparse and nested tensors keep what determines theirs.

    Raises:
        UnsupportedError: a fake device has no such tensors.
    """

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if is_plain(tensor):
            return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        if detect_fake_mode() is not None:
            kind = "nested" if tensor.is_nested else "sparse"
            raise UnsupportedError(f"data.factory: a {kind} tensor in a batch, which has no fake", REAL_TRIALS)
        return tensor.to(device)

    return map_tensors(batch, convert)


def _extrapolate(two: Any, three: Any, n: int, device: torch.device) -> Any:
    if type(two) is not type(three):
        raise _mismatch(two, three)
    if isinstance(two, PackedSequence) or (isinstance(two, torch.Tensor) and not is_plain(two)):
        raise ValueError(f"a batch holds a {type(two).__name__} whose sizes depend on its values")
    if isinstance(two, torch.Tensor):
        if two.dtype is not three.dtype or two.dim() != three.dim():
            raise _mismatch(_format_shape(two), _format_shape(three))
        sizes = [_extrapolate_size(a, b, n) for a, b in zip(two.shape, three.shape, strict=True)]
        return torch.empty(sizes, dtype=two.dtype, device=device)
    parts, others = parts_of(two), parts_of(three)
    if parts is None or others is None:
        return _extrapolate_leaf(two, three, n)
    if parts.keys() == others.keys():
        return rebuild(two, {key: _extrapolate(part, others[key], n, device) for key, part in parts.items()})
    if isinstance(two, (list, tuple)) and (len(two), len(three)) == (2, 3):
        return _repeat_sample((*two, *three), type(two), n, device)
    raise _mismatch(two, three)


def _repeat_sample(
    samples: tuple[Any, ...], kind: type[list[Any] | tuple[Any, ...]], n: int, device: torch.device
) -> Any:
    shapes = {tuple(_format_shape(tensor) for tensor in tensors_of(sample)) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"samples of one batch differ in size: {' and '.join(sorted(map(', '.join, shapes))[:2])}")
    return kind(_extrapolate(samples[0], samples[0], n, device) for _ in range(n))


def _extrapolate_leaf(two: Any, three: Any, n: int) -> Any:
    if not isinstance(two, (int, float, str, type(None))):
        raise ValueError(f"a batch holds a {type(two).__name__}, whose contents are unknown")
    if isinstance(two, (str, type(None))) or two == three:
        return two
    if (two, three) == (2, 3):
        return n
    raise _mismatch(two, three)


def _extrapolate_size(two: int, three: int, n: int) -> int:
    size = two + (three - two) * (n - 2)
    if size < 0:
        raise ValueError(f"a size of {two} for 2 samples and {three} for 3 becomes negative")
    return size


def _format_shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _mismatch(two: Any, three: Any) -> ValueError:
    return ValueError(f"batches of 2 and 3 differ: {_summarize(two)} and {_summarize(three)}")


def _summarize(part: Any) -> str:
    if isinstance(part, (str, int, float)):
        return str(part)
    keys = parts_of(part)
    contents = "" if keys is None else f" of {', '.join(map(str, keys)) if isinstance(part, Mapping) else len(keys)}"
    return f"a {type(part).__name__}{contents}"
