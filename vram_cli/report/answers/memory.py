"""Where the memory goes: the breakdown by category, by module and over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

from vram_cli.errors import ConfigError
from vram_cli.module_paths import last_name, parent_path, path_depth
from vram_cli.records import Breakdown, BreakdownRow, Category, Device, ModuleShare, Phase, Timeline
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.palette import STACK
from vram_cli.report.words import CATEGORY_LABELS, number, origin, percent, place
from vram_cli.units import format_bytes, format_exact

_DEEPEST = 20
"""Levels of modules on a page: deeper than models are nested."""
_MANY_GRADIENTS = 0.9
"""The share of the parameters' size from which gradients need no explanation."""

_NUMBERS = (doc.Column("size"), doc.Column("bytes"), doc.Column("share"))
_HTML: frozenset[doc.Format] = frozenset({"html"})


class Branch(NamedTuple):
    """A module with its submodules, or the memory that a module holds outside them."""

    label: str
    bytes: int
    by_category: dict[Category, int]
    parts: tuple[Branch, ...] = ()
    """The largest first; if there are any, they add up to the branch."""


def memory_blocks(
    breakdown: Breakdown | None, device: Device, command: str, depth: int | None, *, timeline: bool
) -> tuple[doc.Block, ...]:
    """Return the breakdown, with modules and timeline in text and Markdown if asked for and on pages if measured.

    Raises:
        ConfigError: modules or timeline are asked for and were not measured.
    """
    if depth is not None or timeline:
        require_detail(breakdown, command)
    if breakdown is None:
        return ()
    blocks: list[doc.Block] = [breakdown_table(breakdown, device), *_lines_table(breakdown)]
    if depth is not None:
        blocks.append(modules_section(breakdown, device, depth, formats=frozenset({"text", "markdown"})))
    if breakdown.timeline is not None:
        formats = doc.ALL_FORMATS if timeline else _HTML
        blocks.append(_timeline_section(breakdown, breakdown.timeline, device, formats))
    if breakdown.modules:
        blocks.append(modules_section(breakdown, device, _DEEPEST, formats=_HTML))
    return tuple(blocks)


def require_detail(breakdown: Breakdown | None, command: str) -> tuple[Breakdown, Timeline]:
    """Return a breakdown that has modules, and its timeline.

    Raises:
        ConfigError: it has none.
    """
    if breakdown is None or not breakdown.modules or breakdown.timeline is None:
        raise ConfigError(
            f"this result of `vram {command}` has no modules and no timeline",
            "`vram breakdown --by module --timeline --save FILE` measures and saves both",
        )
    return breakdown, breakdown.timeline


def breakdown_title(breakdown: Breakdown, device: Device) -> str:
    """Return the title of a breakdown."""
    where = place(breakdown.peak_phase)
    return f"Peak memory at batch size {number(breakdown.batch_size)}, {where} ({origin(device)})"


def needed_table(needed: Breakdown, device: Device) -> doc.Table:
    """Return a row per category of what a batch would take on a GPU with more memory, without free memory."""
    rows = tuple(row for row in needed.rows if row.category is not Category.FREE)
    title = f"Peak memory that batch size {number(needed.batch_size)} would take, {place(needed.peak_phase)}"
    name = f"{title} (predicted for {device.name} with more memory)"
    return replace(breakdown_table(replace(needed, rows=rows), device), title=name)


def breakdown_table(breakdown: Breakdown, device: Device) -> doc.Table:
    """Return a row per category. The exact bytes of the rows add up to the total, and shares are parts of it."""
    total = breakdown.total_bytes
    parts = tuple((row.category, _part(row.bytes, total)) for row in breakdown.rows if row.bytes)
    rows = tuple(
        doc.Row(
            (CATEGORY_LABELS[row.category], *_sizes(row.bytes, total), _bar(row, breakdown)),
            style="" if row.bytes else "dim",
        )
        for row in breakdown.rows
    )
    return doc.Table(
        breakdown_title(breakdown, device),
        (doc.Column("", "words"), *_NUMBERS, doc.Column("", "bar")),
        rows,
        footer=("total", *_sizes(total, total), doc.Bar(1.0, parts)),
        caption=_gradients_note(breakdown),
    )


def _lines_table(breakdown: Breakdown) -> tuple[doc.Table, ...]:
    """Return the lines of a script that allocated the most, if they are known."""
    columns = doc.Column("line", "name"), doc.Column("size"), doc.Column("mostly", "words")
    rows = tuple(
        doc.Row((share.line or "(no line of the script)", format_bytes(share.bytes), CATEGORY_LABELS[share.category]))
        for share in breakdown.lines
    )
    return (doc.Table("Lines that allocated the most", columns, rows),) if rows else ()


def modules_title(breakdown: Breakdown, device: Device) -> str:
    """Return the title of a tree of modules."""
    return f"Peak memory by module at batch size {number(breakdown.batch_size)} ({origin(device)})"


def modules_section(breakdown: Breakdown, device: Device, depth: int, *, formats: frozenset[doc.Format]) -> doc.Details:
    """Return the modules down to a depth, the largest first.

    A module's row includes its submodules. If those are shown, the memory that the module holds outside them has a row
    of its own, so that the rows one level below a row add up to it. Shares are parts of the memory of all tensors.
    """
    total = breakdown.modules[0].bytes
    columns = (
        doc.Column("module", "name"),
        doc.Column("size"),
        doc.Column("share"),
        doc.Column("mostly", "words", min_width=100, formats=frozenset({"text"})),
        doc.Column("", "bar"),
    )
    rows = tuple(
        doc.Row(
            (
                branch.label,
                format_bytes(branch.bytes),
                percent(branch.bytes, total, 1),
                _mostly(branch),
                _module_bar(branch, total),
            ),
            level=level,
        )
        for level, branch in _walk(module_tree(breakdown.modules, depth))
    )
    explanation = doc.Paragraph(
        "Shares are parts of the memory of all tensors; a module includes its submodules.", formats=_HTML
    )
    tree = doc.Table("", columns, rows, is_tree=True)
    return doc.Details(modules_title(breakdown, device), (explanation, tree), formats=formats)


def module_tree(modules: tuple[ModuleShare, ...], depth: int | None = None) -> Branch:
    """Return the tree down to a depth, or all of it; `modules` has each module before its submodules."""
    shown = [share for share in modules if depth is None or path_depth(share.path) <= depth]
    inside: dict[str, list[ModuleShare]] = {share.path: [] for share in shown}
    for share in shown[1:]:
        inside[parent_path(share.path)].append(share)

    def branch(share: ModuleShare) -> Branch:
        parts = [branch(part) for part in inside[share.path]]
        rest = {
            category: size - sum(part.by_category.get(category, 0) for part in inside[share.path])
            for category, size in share.by_category.items()
        }
        if parts and any(rest.values()):
            parts.append(Branch("(itself)" if share.path else "(outside its modules)", sum(rest.values()), rest))
        return Branch(last_name(share.path) or "model", share.bytes, share.by_category, tuple(parts))

    return branch(modules[0])


def timeline_title(breakdown: Breakdown, device: Device) -> str:
    """Return the title of a timeline."""
    return f"Memory over one step at batch size {number(breakdown.batch_size)} ({origin(device)})"


def _timeline_section(
    breakdown: Breakdown, timeline: Timeline, device: Device, formats: frozenset[doc.Format]
) -> doc.Details:
    peak = timeline.peak
    highest = f"At the peak, {place(peak.phase)}, tensors hold {format_bytes(peak.bytes)}"
    chart = doc.TimelineChart(
        "timeline",
        timeline_title(breakdown, device),
        highest,
        partial(charts.timeline_figure, timeline),
        timeline=timeline,
        formats=doc.ALL_FORMATS,
    )
    blocks = (chart, doc.Paragraph(f"{highest}.", formats=_HTML), _phases_table(timeline))
    return doc.Details(timeline_title(breakdown, device), blocks, formats=formats)


def _phases_table(timeline: Timeline) -> doc.Table:
    """Return the figures behind the chart: the highest moment of each phase."""
    by_phase: dict[Phase, list[dict[Category, int]]] = {}
    for phase, run in groupby(timeline.points, key=lambda point: point.phase):
        by_phase.setdefault(phase, []).extend(point.by_category for point in run)
    peaks = [max(moments, key=lambda held: sum(held.values())) for moments in by_phase.values()]
    used = {category for point in timeline.points for category in point.by_category}
    return doc.Table(
        "",
        (doc.Column("highest in", "name"), *(doc.Column(phase.value) for phase in by_phase)),
        tuple(
            doc.Row((CATEGORY_LABELS[category], *(format_bytes(held.get(category, 0)) for held in peaks)))
            for category in reversed(STACK)
            if category in used
        ),
        footer=("in tensors", *(format_bytes(sum(held.values())) for held in peaks)),
        formats=_HTML,
    )


def _gradients_note(breakdown: Breakdown) -> str:
    parameters, gradients = breakdown.bytes_of(Category.PARAMETERS), breakdown.bytes_of(Category.GRADIENTS)
    if breakdown.peak_phase is not Phase.BACKWARD or gradients > _MANY_GRADIENTS * parameters:
        return ""
    return "The peak is in backward: gradients created after that moment are not in this table."


def _sizes(size: int, total: int) -> tuple[str, str, str]:
    return format_bytes(size), format_exact(size), percent(size, total, 1)


def _part(size: int, total: int) -> float:
    return size / total if total else 0.0


def _bar(row: BreakdownRow, breakdown: Breakdown) -> doc.Bar:
    share = _part(row.bytes, breakdown.total_bytes)
    used = breakdown.total_bytes - breakdown.bytes_of(Category.FREE)
    level = "free" if row.category is Category.FREE else _level(_part(row.bytes, used))
    return doc.Bar(share, ((row.category, share),), level)


def _module_bar(branch: Branch, total: int) -> doc.Bar:
    share = _part(branch.bytes, total)
    parts = tuple((category, _part(branch.by_category.get(category, 0), total)) for category in Category)
    return doc.Bar(share, tuple(part for part in parts if part[1] > 0), _level(share))


def _level(share: float) -> Literal["high", "medium", "low"]:
    # The thresholds of memray's summary.
    return "high" if share > 0.6 else "medium" if share > 0.2 else "low"


def _walk(branch: Branch, level: int = 0) -> Iterator[tuple[int, Branch]]:
    yield level, branch
    for part in branch.parts:
        yield from _walk(part, level + 1)


def _mostly(branch: Branch) -> str:
    held = {category: size for category, size in branch.by_category.items() if size}
    return CATEGORY_LABELS[max(held, key=lambda category: held[category])] if held else ""
