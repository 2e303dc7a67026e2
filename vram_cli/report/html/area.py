"""The chart of memory over a step: an area for each category, stacked, with the phases below and the peak marked."""

from __future__ import annotations

from typing import NamedTuple

from vram_cli.records import Category, Phase, Timeline
from vram_cli.report.html.scales import Tick, byte_ticks, edges, percent
from vram_cli.report.timeline import INKS
from vram_cli.report.words import place
from vram_cli.units import format_bytes

HEIGHT = 1000
"""Of the chart's own coordinates; a unit of its width is an event."""
_HEADROOM = 115
"""In percent: the top above the peak, for the words that mark it."""
_NAME = 24
"""Percent of the width that the name of a phase takes on a phone."""


class Layer(NamedTuple):
    """The area of one category, as the `d` of an SVG path."""

    category: Category
    path: str


class PhaseName(NamedTuple):
    """Where a phase begins, and where its name stands: in the first row below the chart that has room."""

    at: str
    label: str
    row: int
    to_the_left: bool
    """Whether the name ends at the chart's right edge, because it would run over it."""


class Area(NamedTuple):
    """All that is drawn of a timeline."""

    width: int
    layers: list[Layer]
    ticks: list[Tick]
    phases: list[PhaseName]
    peak_x: str
    peak_y: str
    peak_label: str
    peak_anchor: str
    """Which part of its label is at the peak's place, in the words of SVG, so that it stays within the chart."""
    columns: list[tuple[Phase, dict[Category, int]]]
    """The highest moment of each phase, for the table."""


def area_chart(timeline: Timeline) -> Area:
    """Return where everything is drawn. The first moment begins at the left edge, the last one ends at the right."""
    peak, width = timeline.peak, timeline.events + 1
    ceiling = max(peak.bytes * _HEADROOM // 100, 1)
    return Area(
        width=width,
        layers=_layers(timeline, ceiling),
        ticks=[Tick(percent(ceiling - size, ceiling), format_bytes(size)) for size in byte_ticks(peak.bytes)],
        phases=_phase_names(timeline, width),
        peak_x=percent(peak.event + 0.5, width),
        peak_y=percent(ceiling - peak.bytes, ceiling),
        peak_label=f"{format_bytes(peak.bytes)} {place(peak.phase)}",
        peak_anchor="start" if peak.event < width / 4 else "end" if peak.event > width * 3 / 4 else "middle",
        columns=_highest_of_each(timeline),
    )


def boundaries(timeline: Timeline, ceiling: int) -> list[list[int]]:
    """Return for each point the tops of its layers in the order of `INKS`, counted from the bottom up to `HEIGHT`."""
    return [
        edges((point.by_category.get(category, 0) for category in INKS), ceiling, HEIGHT) for point in timeline.points
    ]


def _layers(timeline: Timeline, ceiling: int) -> list[Layer]:
    tops = boundaries(timeline, ceiling)
    starts = [0, *(point.event for point in timeline.points[1:]), timeline.events + 1]
    drawn = {category for point in timeline.points for category in point.by_category}
    layers = []
    for index, category in enumerate(INKS):
        upper = [top[index] for top in tops]
        lower = [top[index - 1] if index else 0 for top in tops]
        if category in drawn and upper != lower:
            layers.append(Layer(category, _outline(starts, lower, upper)))
    return layers


def _outline(starts: list[int], lower: list[int], upper: list[int]) -> str:
    """Return a path along the upper edge to the right and back along the lower one; a moment lasts till the next."""
    there = _stairs(starts, upper)
    back = _stairs(starts[::-1], lower[::-1])
    return f"M{starts[0]} {HEIGHT - upper[0]}{there}V{HEIGHT - lower[-1]}{back}Z"


def _stairs(along: list[int], heights: list[int]) -> str:
    """Return the steps from the first place to the last, without those that would change nothing."""
    steps, at = [], heights[0]
    for x, height in zip(along[1:], heights[1:], strict=False):
        if height != at:
            steps.append(f"H{x}V{HEIGHT - height}")
            at = height
    return "".join(steps) + f"H{along[-1]}"


def _phase_names(timeline: Timeline, width: int) -> list[PhaseName]:
    first: dict[Phase, int] = {}
    for point in timeline.points:
        first.setdefault(point.phase, point.event)
    names: list[PhaseName] = []
    taken: list[float] = []
    for phase, event in first.items():
        start = 100 * event / width if names else 0.0
        to_the_left = start + _NAME > 100
        left = 100 - _NAME if to_the_left else start
        row = next((row for row, end in enumerate(taken) if end <= left), len(taken))
        taken[row : row + 1] = [left + _NAME]
        names.append(PhaseName(percent(start, 100), phase.value, row, to_the_left))
    return names


def _highest_of_each(timeline: Timeline) -> list[tuple[Phase, dict[Category, int]]]:
    phases = dict.fromkeys(point.phase for point in timeline.points)
    points = [[point for point in timeline.points if point.phase is phase] for phase in phases]
    return [(run[0].phase, max(run, key=lambda point: point.bytes).by_category) for run in points]
