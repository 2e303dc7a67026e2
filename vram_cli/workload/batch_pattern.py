"""What batches of any size look like, learned from small ones: code makes those, and need not be asked for others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch

from vram_cli.workload.batches import Batch, parts_of, rebuild, tensors_of


BatchPattern:
    """What batches have in common: sizes are straight lines in n.

    Args:
        two: a batch of 2 samples.
        three: one of 3.
        five: one of 5, by which the lines are checked.

    Raises:
        ValueError: nobody can say what another one is like.
    """

    def __init__(self, two: Batch, three: Batch, five: Batch) -> None:
        self._two, self._three = two, three
        expected = map(_shape, tensors_of(self.batch(5, torch.device("meta"))))
        for ours, theirs in zip_longest(expected, map(_shape, tensors_of(five))):
            if ours != theirs:
                raise ValueError(f"a batch of 5 has {theirs} where those of 2 and 3 promise {ours}")

    def batch(self, n: int, device: torch.device) -> Batch:
        """Return a batch of n samples on the device: of the right sizes, with nothing in it."""
        return _grown(self._two, self._three, n, device)


def _grown(two: Any, three: Any, n: int, device: torch.device) -> Any:
    if type(two) is not type(three):
        raise _differ(two, three)
    if isinstance(two, torch.Tensor):
        if two.dtype is not three.dtype or two.dim() != three.dim():
            raise _differ(_shape(two), _shape(three))
        sizes = [_line(a, b, n) for a, b in zip(two.shape, three.shape, strict=True)]
        return torch.empty(sizes, dtype=two.dtype, device=device)
    parts, others = parts_of(two), parts_of(three)
    if parts is None or others is None:
        return _grown_leaf(two, three, n)
    if parts.keys() == others.keys():
        return rebuild(two, {key: _grown(part, others[key], n, device) for key, part in parts.items()})
    if isinstance(two, (list, tuple)) and (len(two), len(three)) == (2, 3):
        return _samples((*two, *three), type(two), n, device)
    raise _differ(two, three)


def _samples(seen: tuple[Any, ...], kind: type[list[Any] | tuple[Any, ...]], n: int, device: torch.device) -> Any:
    shapes = {tuple(_shape(tensor) for tensor in tensors_of(sample)) for sample in seen}
    if len(shapes) > 1:
        raise ValueError(f"samples of one batch differ in size: {' and '.join(sorted(map(', '.join, shapes))[:2])}")
    return kind(_grown(seen[0], seen[0], n, device) for _ in range(n))


def _grown_leaf(two: Any, three: Any, n: int) -> Any:
    if not isinstance(two, (int, float, str, type(None))):
        raise ValueError(f"a batch holds a {type(two).__name__}, of which nobody knows what is in it")
    if isinstance(two, (str, type(None))) or two == three:
        return two
    if (two, three) == (2, 3):
        return n
    raise _differ(two, three)


def _line(two: int, three: int, n: int) -> int:
    size = two + (three - two) * (n - 2)
    if size < 0:
        raise ValueError(f"a size of {two} at 2 samples and {three} at 3 cannot go on")
    return size


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _differ(two: Any, three: Any) -> ValueError:
    return ValueError(f"batches of 2 and 3 differ: {_word(two)} and {_word(three)}")


def _word(part: Any) -> str:
    if isinstance(part, (str, int, float)):
        return str(part)
    keys = parts_of(part)
    made_of = "" if keys is None else f" of {', '.join(map(str, keys)) if isinstance(part, Mapping) else len(keys)}"
    return f"a {type(part).__name__}{made_of}"
