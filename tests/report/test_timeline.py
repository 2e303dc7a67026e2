"""The chart of a step in text: layers as high as their bytes, phases in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.records import Breakdown, Category, Phase, Timeline, TimelinePoint
from vram_cli.report.answers.memory import memory_blocks
from vram_cli.report.formats.timeline import INKS
from vram_cli.units import GIB

from .drawing import block, text
from .examples import GPU, detailed

HEIGHT, MARGIN = 12, 10


def example(*points: TimelinePoint) -> Breakdown:
    made = detailed().breakdown
    assert made is not None
    return replace(made, timeline=Timeline(points=points, events=points[-1].event)) if points else made


def point(event: int, phase: Phase, **held: int) -> TimelinePoint:
    return TimelinePoint(event=event, phase=phase, by_category={Category(name): size for name, size in held.items()})


def chart(breakdown: Breakdown, width: int = 80, encoding: str = "utf-8") -> str:
    section = next(part for part in memory_blocks(breakdown, GPU, "", None, timeline=True)[1:])
    return block(section, width, encoding)


def body(drawn: str) -> list[str]:
    """Return the rows of the chart, the highest first, without the labels before the axis."""
    return [line[MARGIN:] for line in drawn.splitlines()[1 : 1 + HEIGHT]]


@pytest.mark.parametrize(("name", "encoding"), [("timeline-80", "utf-8"), ("timeline-80-ascii", "ascii")])
def test_chart_at_80_columns(name: str, encoding: str, golden: Callable[[str, str], str]) -> None:
    drawn = chart(example(), encoding=encoding)
    assert drawn == golden(name, drawn)


def test_layers_are_as_high_as_their_bytes() -> None:
    made = example(
        point(0, Phase.FORWARD, parameters=3 * GIB),
        point(1, Phase.FORWARD, parameters=3 * GIB, activations=3 * GIB),
        point(2, Phase.BACKWARD, parameters=3 * GIB, activations=3 * GIB, temporaries=6 * GIB),
        point(3, Phase.OPTIMIZER, parameters=3 * GIB, gradients=3 * GIB),
    )
    rows = body(chart(made, MARGIN + 80, "ascii"))
    a, g, p, t = (letter * 20 for letter in "AGPT")
    assert rows == [" " * 40 + t] * 6 + [" " * 20 + a + a + g] * 3 + [p * 4] * 3


def test_phases_begin_below_their_first_event() -> None:
    made = example(*(point(i, phase, parameters=GIB) for i, phase in enumerate([Phase.FORWARD] * 5 + [Phase.BACKWARD])))
    *_, axis, names, _, _ = chart(made, MARGIN + 60, "ascii").splitlines()
    assert axis[MARGIN:] == "+" + "-" * 49 + "+" + "-" * 9
    assert names[MARGIN:] == "forward".ljust(50) + "backward"


def test_name_of_a_short_last_phase_moves_left() -> None:
    phases = [Phase.FORWARD] * 50 + [Phase.BACKWARD] * 49 + [Phase.OPTIMIZER]
    made = example(*(point(i, phase, parameters=GIB) for i, phase in enumerate(phases)))
    *_, names, _, _ = chart(made, MARGIN + 50, "ascii").splitlines()
    assert names.endswith("optimizer")
    assert len(names) == MARGIN + 50


@given(
    heights=st.lists(st.integers(0, 10**6), min_size=1, max_size=300).filter(any),
    width=st.integers(60, 200),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
@settings(max_examples=40, deadline=None)
def test_peak_is_drawn_at_any_width(heights: list[int], width: int, encoding: str) -> None:
    made = example(*(point(i, Phase.FORWARD, activations=size) for i, size in enumerate(heights)))
    drawn = chart(made, width, encoding)
    assert max(map(len, drawn.splitlines())) <= width
    assert body(drawn)[0].strip()


def test_legend_has_the_bytes_at_the_peak() -> None:
    made = example(point(0, Phase.FORWARD, parameters=GIB), point(1, Phase.BACKWARD, parameters=GIB, gradients=GIB))
    legend = chart(made, encoding="ascii").splitlines()[-2:]
    assert legend[0] == "At the peak, in backward, tensors hold 2.00 GiB:"
    assert legend[1].split() == ["P", "parameters", "1.00", "GiB", "G", "gradients", "1.00", "GiB"]


def test_every_category_of_tensors_has_its_own_ink() -> None:
    assert set(INKS) == set(Category) - {
        Category.ALLOCATOR_SLACK,
        Category.COMMUNICATION,
        Category.CONTEXT,
        Category.FREE,
    }
    for marks in zip(*INKS.values(), strict=True):
        assert len(set(marks)) == len(INKS)


def test_answer_has_the_chart_only_on_request() -> None:
    assert "over one step" not in text(detailed())
    assert "Memory over one step at batch size 128 (measured)" in text(detailed(), timeline=True)


def test_a_timeline_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        Timeline(points=(), events=0)
