"""Changes at the peak since a baseline, by category and by module."""

from __future__ import annotations

from collections import Counter

from vram_cli.module_paths import parent_path
from vram_cli.records import OF_ONE_RANK, Breakdown, Category, ModuleChange, ModuleShare, RowChange

OUTSIDE_ALLOCATOR = (Category.COMMUNICATION, Category.CONTEXT, Category.FREE)
"""Categories outside PyTorch's allocator: they differ between runners."""


def row_changes(baseline: Breakdown, current: Breakdown) -> tuple[RowChange, ...]:
    """Return the categories of reserved memory, the largest growth first. Their growth adds up to that of the peak."""
    changes = [
        RowChange(category=category, baseline_bytes=baseline.bytes_of(category), bytes=current.bytes_of(category))
        for category in Category
        if category not in OUTSIDE_ALLOCATOR
    ]
    changes = [change for change in changes if change.category in OF_ONE_RANK or change.baseline_bytes or change.bytes]
    return tuple(sorted(changes, key=lambda change: -change.growth))


def module_changes(baseline: Breakdown, current: Breakdown) -> tuple[ModuleChange, ...]:
    """Return the modules that changed, the largest growth first. Their growth adds up to that of all tensors."""
    if not baseline.modules or not current.modules:
        return ()
    old = _without_submodules(baseline.modules, current.modules)
    new = _without_submodules(current.modules, baseline.modules)
    changes = [_change(path, old.get(path), new.get(path)) for path in {**old, **new}]
    changed = [change for change in changes if change.growth or change.category_growth]
    return tuple(sorted(changed, key=lambda change: (-change.growth, change.path)))


def _without_submodules(
    modules: tuple[ModuleShare, ...], others: tuple[ModuleShare, ...]
) -> dict[str, Counter[Category]]:
    """Return the memory of each module without its submodules, or with them if `others` lacks the module."""
    common = {share.path for share in others}
    totals: dict[str, Counter[Category]] = {}
    for share in modules:
        totals.setdefault(_counted_as(share.path, common), Counter()).update(share.by_category)
        if share.path:
            totals[_counted_as(parent_path(share.path), common)].subtract(share.by_category)
    return totals


def _counted_as(path: str, common: set[str]) -> str:
    """Return the outermost module around a path that is not in `common`, or the path itself if all are."""
    parts = path.split(".")
    outer = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next((name for name in outer if name not in common), path)


def _change(path: str, baseline: Counter[Category] | None, current: Counter[Category] | None) -> ModuleChange:
    old, new = baseline or Counter(), current or Counter()
    growth = {category: new[category] - old[category] for category in Category}
    sign = 1 if sum(growth.values()) >= 0 else -1
    category = max(growth, key=lambda name: sign * growth[name])
    return ModuleChange(
        path=path,
        baseline_bytes=old.total(),
        bytes=new.total(),
        category=category,
        category_growth=growth[category],
        new=baseline is None,
    )
