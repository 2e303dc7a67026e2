"""The peak by module: a tree of the model, with the size and the share of each branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType

from vram_cli.records import Breakdown, Category, Device, ModuleShare
from vram_cli.report.tables import Bar, names, numbers, ruled
from vram_cli.report.words import CATEGORY_LABELS, literal, number, origin, percent
from vram_cli.units import format_bytes

DEFAULT_DEPTH = 2

_WITH_BAR = 80
_WITH_KIND = 100
_NAMES_AND_NUMBERS = 54
"""What names, sizes and shares may take where there is a bar."""
_KINDS = 28
_LONGEST_BAR = 40


class Branch(NamedTuple):
    """A module with all that is in it, or what a module holds beside its parts."""

    label: str
    bytes: int
    by_category: dict[Category, int]
    parts: tuple[Branch, ...] = ()
    """The largest first; where there are any, they add up to the branch."""


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
    for level, branch in _walk(module_tree(breakdown.modules, depth)):
        cells: list[RenderableType] = [literal("  " * level + branch.label), format_bytes(branch.bytes)]
        cells.append(percent(branch.bytes, total, 1))
        if width >= _WITH_KIND:
            cells.append(_mostly(branch))
        if width >= _WITH_BAR:
            cells.append(_bar(branch, total, width))
        table.add_row(*cells)
    return Group(literal(modules_title(breakdown, device), "bold"), table)


def modules_title(breakdown: Breakdown, device: Device) -> str:
    """Return what a tree of modules is of."""
    return f"Peak memory by module at batch size {number(breakdown.batch_size)} ({origin(device)})"


def module_tree(modules: tuple[ModuleShare, ...], depth: int | None = None) -> Branch:
    """Return the tree down to a depth, or all of it; `modules` has each module before those in it."""
    shown = [share for share in modules if depth is None or _depth(share.path) <= depth]
    inside: dict[str, list[ModuleShare]] = {share.path: [] for share in shown}
    for share in shown[1:]:
        inside[_parent(share.path)].append(share)

    def grown(share: ModuleShare) -> Branch:
        parts = [grown(part) for part in inside[share.path]]
        own = _beside(share, inside[share.path])
        if parts and any(own.values()):
            label = "(itself)" if share.path else "(outside its modules)"
            parts.append(Branch(label, sum(own.values()), own))
        return Branch(share.path.rpartition(".")[2] or "model", share.bytes, share.by_category, tuple(parts))

    return grown(modules[0])


def _walk(branch: Branch, level: int = 0) -> Iterator[tuple[int, Branch]]:
    yield level, branch
    for part in branch.parts:
        yield from _walk(part, level + 1)


def _beside(share: ModuleShare, parts: list[ModuleShare]) -> dict[Category, int]:
    return {
        category: size - sum(part.by_category.get(category, 0) for part in parts)
        for category, size in share.by_category.items()
    }


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _mostly(branch: Branch) -> str:
    held = {category: size for category, size in branch.by_category.items() if size}
    return CATEGORY_LABELS[max(held, key=lambda category: held[category])] if held else ""


def _bar(branch: Branch, total: int, width: int) -> Bar:
    room = width - _NAMES_AND_NUMBERS - (_KINDS if width >= _WITH_KIND else 0)
    share = branch.bytes / total if total else 0.0
    return Bar(share, min(room, _LONGEST_BAR), "red" if share > 0.6 else "yellow" if share > 0.2 else "green")
