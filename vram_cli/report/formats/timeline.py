"""Memory over a training step as a chart of characters: one column per moment, categories stacked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from vram_cli.records import Category, Phase, Timeline, TimelinePoint
from vram_cli.report.palette import STACK
from vram_cli.report.words import CATEGORY_LABELS, literal
from vram_cli.units import format_bytes

_HEIGHT = 12
_LABEL_EVERY = 4
_LABELS = 9
"""The width of a size such as "9.31 GiB", with a space."""
_THREE_ACROSS = 76
"""From this width on the legend has three columns, else two."""


class Ink(NamedTuple):
    """How a category is drawn: a block, a letter if the encoding has no blocks, a colour."""

    block: str
    letter: str
    colour: str


INKS = {
    Category.PARAMETERS: Ink("█", "P", "blue"),
    Category.OPTIMIZER_STATE: Ink("▓", "O", "cyan"),
    Category.GRADIENTS: Ink("▒", "G", "magenta"),
    Category.BATCH_DATA: Ink("░", "B", "white"),
    Category.KEPT: Ink("▧", "S", "bright_black"),
    Category.ACTIVATIONS: Ink("▞", "A", "yellow"),
    Category.GRADIENT_BUCKETS: Ink("▚", "K", "bright_magenta"),
    Category.GATHERED_PARAMETERS: Ink("▤", "F", "bright_blue"),
    Category.REDUCE_SCATTER_BUFFERS: Ink("▥", "R", "bright_cyan"),
    Category.TEMPORARIES: Ink("•", "T", "red"),
    Category.WORKSPACES: Ink("○", "W", "bright_red"),
}


def timeline_chart(timeline: Timeline, description: str) -> RenderableType:
    """Return the chart with a legend that has the bytes at the peak."""
    return Group(_Chart(timeline), literal(f"{description}:"), _Legend(timeline))


class _Chart:
    """Each column stands for a run of events, and shows its highest moment."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        columns = _columns(self._timeline, options.max_width - _LABELS - 1)
        peak = self._timeline.peak.bytes
        stacks = [_stack(point, peak) for point, _ in columns]
        for row in range(_HEIGHT):
            label = format_bytes(peak * (_HEIGHT - row) // _HEIGHT) if row % _LABEL_EVERY == 0 else ""
            yield Segment(f"{label:>{_LABELS}}" + ("|" if ascii_only else "┤" if label else "│"))
            yield from _cells(console, [stack[_HEIGHT - 1 - row] for stack in stacks], ascii_only=ascii_only)
            yield Segment.line()
        yield from _axis([phase for _, phase in columns], ascii_only=ascii_only)


class _Legend:
    """The meaning of each character, and the bytes of its category at the peak; unused categories are left out."""

    def __init__(self, timeline: Timeline) -> None:
        self._peak = timeline.peak
        self._drawn = {category for point in timeline.points for category in point.by_category}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        across = 3 if options.max_width >= _THREE_ACROSS else 2
        grid = Table.grid(padding=(0, 2, 0, 0))
        entries = []
        for category in (category for category in STACK if category in self._drawn):
            ink, label = INKS[category], CATEGORY_LABELS[category].split(" and ")[0]
            mark = Text(ink.letter if options.ascii_only else ink.block, ink.colour)
            size = format_bytes(self._peak.by_category.get(category, 0))
            entries.append(Text.assemble(mark, f" {label} {size}"))
        for i in range(0, len(entries), across):
            grid.add_row(*entries[i : i + across])
        yield grid


def _columns(timeline: Timeline, width: int) -> list[tuple[TimelinePoint, Phase]]:
    """Return the highest event of each column, or the last one before it if it has none, and the phase at its end."""
    points, columns, at = timeline.points, [], 0
    for column in range(width):
        end = (column + 1) * (timeline.events + 1) / width
        first = at
        while at < len(points) and points[at].event < end:
            at += 1
        run = points[first:at] or points[max(first - 1, 0) :][:1]
        columns.append((max(run, key=lambda point: point.bytes), run[-1].phase))
    return columns


def _stack(point: TimelinePoint, peak: int) -> list[Category | None]:
    """Return the category at the middle of each row, from the bottom up."""
    stack: list[Category | None] = []
    filled = 0
    for category in STACK:
        filled += point.by_category.get(category, 0)
        rows = round(filled * _HEIGHT / peak) if peak else 0
        stack += [category] * (rows - len(stack))
    return stack + [None] * (_HEIGHT - len(stack))


def _cells(console: Console, row: list[Category | None], *, ascii_only: bool) -> Iterator[Segment]:
    for category, run in groupby(row):
        length = len(list(run))
        if category is None:
            yield Segment(" " * length)
        else:
            ink = INKS[category]
            yield Segment((ink.letter if ascii_only else ink.block) * length, console.get_style(ink.colour))


def _axis(phases: list[Phase], *, ascii_only: bool) -> Iterator[Segment]:
    """Return the line below the chart, with a tick and the name at the start of each phase."""
    rule, tick, corner = ("-", "+", "+") if ascii_only else ("─", "┬", "└")
    line, names, start = "", "", 0
    for phase, run in groupby(phases):
        length = len(list(run))
        line += tick + rule * (length - 1)
        # A name that has no room below its phase moves to the left, as far as the name before lets it.
        left = max(min(start, len(phases) - len(phase.value)), len(names) + 1 if names else 0)
        names = names.ljust(left) + phase.value
        start += length
    yield Segment(f"{'0 B':>{_LABELS}}{corner}{line}")
    yield Segment.line()
    yield Segment(" " * (_LABELS + 1) + names[: len(phases)])
    yield Segment.line()
