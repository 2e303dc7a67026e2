"""A bar of categories side by side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from vram_cli.records import Category
from vram_cli.report.html.scales import edges, percent

_ROOM = 100_000


class Segment(NamedTuple):
    """The part of a bar that stands for one category."""

    category: Category
    bytes: int
    x: str
    width: str


def segments(sizes: Mapping[Category, int], total: int) -> list[Segment]:
    """Return a segment for each category that has bytes, in the categories' order; `total` is the bar's whole length.

    Each begins where the one before it ends.
    """
    held = [(category, sizes[category]) for category in Category if sizes.get(category, 0) > 0]
    ends = pairwise([0, *edges((size for _, size in held), total, _ROOM)])
    return [
        Segment(category, size, percent(start, _ROOM), percent(end - start, _ROOM))
        for (category, size), (start, end) in zip(held, ends, strict=True)
    ]
