"""The chart of speed: samples per second over the batch size, on an axis on which doubling is a step."""

from __future__ import annotations

import math
from typing import NamedTuple

from vram_cli.records import Throughput
from vram_cli.report.html.scales import Tick, count_ticks, percent
from vram_cli.report.throughput import role
from vram_cli.report.words import count, number, per_second

SIDE = 1000
"""Of the chart's own coordinates, in which its line is drawn."""
_HEADROOM = 1.15
"""The top above the fastest step that is drawn, for the words at a mark."""
_MARGIN = 0.06
"""Part of the width that is left free at either side."""
_ROOM = 0.16
"""Part of the width that the number of a size takes below the chart on a phone."""


class PaceMark(NamedTuple):
    """One size: its median step, and where half of its steps lie."""

    x: str
    y: str
    low: str
    high: str
    role: str
    """"fastest", "knee", both or nothing; it stands above the mark."""
    label: str


class Paces(NamedTuple):
    """All that is drawn of the speed."""

    marks: list[PaceMark]
    line: str
    """Through the medians, as the `d` of an SVG path."""
    sizes: list[Tick]
    ticks: list[Tick]


def paces_chart(throughput: Throughput) -> Paces:
    """Return where everything is drawn."""
    top = max(pace.q75 for pace in throughput.points) * _HEADROOM
    places = _places([pace.batch_size for pace in throughput.points])
    named = {throughput.fastest_batch_size, throughput.knee_batch_size}
    marks = [
        PaceMark(
            x=percent(place, 1),
            y=percent(top - pace.samples_per_second, top),
            low=percent(top - pace.q25, top),
            high=percent(top - pace.q75, top),
            role=role(throughput, pace.batch_size) if pace.batch_size in named else "",
            label=f"{number(pace.batch_size)}: {per_second(pace.samples_per_second)}, {count(pace.steps, 'step')}",
        )
        for place, pace in zip(places, throughput.points, strict=True)
    ]
    points = [
        f"{SIDE * place:.1f} {SIDE * (1 - pace.samples_per_second / top):.1f}"
        for place, pace in zip(places, throughput.points, strict=True)
    ]
    labelled: list[float] = []
    for place in places:
        if not labelled or place - labelled[-1] >= _ROOM:
            labelled.append(place)
    return Paces(
        marks=marks,
        line=f"M{'L'.join(points)}",
        sizes=[
            Tick(percent(place, 1), number(pace.batch_size))
            for place, pace in zip(places, throughput.points, strict=True)
            if place in labelled
        ],
        ticks=[Tick(percent(top - speed, top), number(speed)) for speed in count_ticks(int(top))],
    )


def _places(sizes: list[int]) -> list[float]:
    """Return where rising sizes stand, as parts of the width; a single one in the middle."""
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    width = last - first
    return [_MARGIN + (1 - 2 * _MARGIN) * ((math.log2(size) - first) / width if width else 0.5) for size in sizes]
