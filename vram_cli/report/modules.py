"""The peak by module: a tree of the model, with the size and the share of each branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType

from vram_cli.report.tables import Bar, names, numbers, ruled
from vram_cli.report.words import CATEGORY_LABELS, literal, number, origin, percent
from vram_cli.results import Breakdown, Category, Device, ModuleShare
from vram_cli.units import format_bytes

DEFAULT_DEPTH = 2

_WITH_BAR = 80
_WITH_KIND = 100
_NAMES_AND_NUMBERS = 54
"""What names, sizes and shares may take where there is a bar."""
_KINDS = 28
_LONGEST_BAR = 40


class _Branch(NamedTuple):
    depth: int
    label: str
    bytes: int
    by_category: dict[Category, int]


def modules_table(breakdown: Breakdown, device: Device, width: int, depth: int = DEFAULT_DEPTH) -> RenderableType:
    """Return the modules down to a depth, the largest first, for a console of `width` columns.

    A module's row holds all that is in it. Where its parts are shown, what it holds beside them has a row of its own,
    so that the rows one level below a row add up to it. Shares are parts of what all tensors hold.
    """
    total = breakdown.modules[0].bytes
    table = ruled(names("module"), numbers("size"), numbers("share"))
    if width >= _WITH_KIND:
        table.add_column("mostly")
    if width >= _WITH_BAR:
        table.add_column("")
    for branch in _branches(breakdown.modules, depth):
        cells: list[RenderableType] = [literal("  " * branch.depth + branch.label), format_bytes(branch.bytes)]
        cells.append(percent(branch.bytes, total, 1))
        if width >= _WITH_KIND:
            cells.append(_mostly(branch))
        if width >= _WITH_BAR:
            cells.append(_bar(branch, total, width))
        table.add_row(*cells)
    title = f"Peak memory by module at batch size {number(breakdown.batch_size)} ({origin(device)})"
    return Group(literal(title, "bold"), table)


def _branches(modules: tuple[ModuleShare, ...], depth: int) -> Iterator[_Branch]:
    """Return the rows of the tree; `modules` has each module before those in it."""
    shown = [share for share in modules if _depth(share.path) <= depth]
    inside: dict[str, list[ModuleShare]] = {share.path: [] for share in shown}
    for share in shown[1:]:
        inside[_parent(share.path)].append(share)

    def walk(share: ModuleShare) -> Iterator[_Branch]:
        level, parts = _depth(share.path), inside[share.path]
        yield _Branch(level, share.path.rpartition(".")[2] or "model", share.bytes, share.by_category)
        for part in parts:
            yield from walk(part)
        own = _beside(share, parts)
        if parts and any(own.values()):
            label = "(itself)" if share.path else "(outside its modules)"
            yield _Branch(level + 1, label, sum(own.values()), own)

    return walk(modules[0])


def _beside(share: ModuleShare, parts: list[ModuleShare]) -> dict[Category, int]:
    return {
        category: size - sum(part.by_category.get(category, 0) for part in parts)
        for category, size in share.by_category.items()
    }


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _mostly(branch: _Branch) -> str:
    held = {category: size for category, size in branch.by_category.items() if size}
    return CATEGORY_LABELS[max(held, key=lambda category: held[category])] if held else ""


def _bar(branch: _Branch, total: int, width: int) -> Bar:
    room = width - _NAMES_AND_NUMBERS - (_KINDS if width >= _WITH_KIND else 0)
    share = branch.bytes / total if total else 0.0
    return Bar(share, min(room, _LONGEST_BAR), "red" if share > 0.6 else "yellow" if share > 0.2 else "green")
