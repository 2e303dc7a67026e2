"""What changed at the peak since a baseline: the rows of the breakdown, and the modules of the model."""

from __future__ import annotations

from collections import Counter

from vram_cli.module_paths import parent_path
from vram_cli.records import Breakdown, Category, ModuleChange, ModuleShare, RowChange

BESIDE = (Category.CONTEXT, Category.FREE)
"""Rows that are not of PyTorch's allocator: they differ from one runner to the next."""


def row_changes(before: Breakdown, now: Breakdown) -> tuple[RowChange, ...]:
    """Return the rows of what is reserved, the largest growth first; their growth adds up to that of the peak."""
    changes = [
        RowChange(category=category, before=before.bytes_of(category), now=now.bytes_of(category))
        for category in Category
        if category not in BESIDE
    ]
    return tuple(sorted(changes, key=lambda change: -change.growth))


def module_changes(before: Breakdown, now: Breakdown) -> tuple[ModuleChange, ...]:
    """Return the modules that changed, the largest growth first; their growth adds up to that of all tensors."""
    if not before.modules or not now.modules:
        return ()
    then, today = _own(before.modules, now.modules), _own(now.modules, before.modules)
    changes = [_change(path, then.get(path), today.get(path)) for path in {**then, **today}]
    changed = [change for change in changes if change.growth or change.category_growth]
    return tuple(sorted(changed, key=lambda change: (-change.growth, change.path)))


def _own(modules: tuple[ModuleShare, ...], others: tuple[ModuleShare, ...]) -> dict[str, Counter[Category]]:
    """Return what each module holds beside its parts; one that the others lack has all that is in it."""
    known = {share.path for share in others}
    own: dict[str, Counter[Category]] = {}
    for share in modules:
        held = own.setdefault(_counted_as(share.path, known), Counter())
        held.update(share.by_category)
        if share.path:
            own[_counted_as(parent_path(share.path), known)].subtract(share.by_category)
    return own


def _counted_as(path: str, known: set[str]) -> str:
    """Return the outermost module around a path that is not known, or the path itself where it is."""
    parts = path.split(".")
    outer = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next((name for name in outer if name not in known), path)


def _change(path: str, before: Counter[Category] | None, now: Counter[Category] | None) -> ModuleChange:
    then, today = before or Counter(), now or Counter()
    growth = {category: today[category] - then[category] for category in Category}
    sign = 1 if sum(growth.values()) >= 0 else -1
    most = max(growth, key=lambda category: sign * growth[category])
    return ModuleChange(
        path=path,
        before=then.total(),
        now=today.total(),
        category=most,
        category_growth=growth[most],
        new=before is None,
    )
