"""Where things are drawn: stacks have no gaps and are as high as their bytes, ticks are round, words have room."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.records import Category, Phase, Timeline, TimelinePoint
from vram_cli.report.html.area import HEIGHT, Layer, area_chart, boundaries
from vram_cli.report.html.bar import segments
from vram_cli.report.html.marks import trials_chart
from vram_cli.report.html.scales import byte_ticks, count_ticks, edges
from vram_cli.report.timeline import INKS
from vram_cli.units import GIB, MIB

from .examples import CPU, GPU, MEMORY, THRASHING, failed, ran, timeline

SIZES = st.integers(0, 2**50)
HELD = st.dictionaries(st.sampled_from(list(INKS)), SIZES, max_size=6)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    held = draw(st.lists(HELD, min_size=1, max_size=30))
    gaps = draw(st.lists(st.integers(1, 9), min_size=len(held), max_size=len(held)))
    breaks = sorted(draw(st.tuples(st.integers(0, len(held)), st.integers(0, len(held)))))
    points = []
    for i, by_category in enumerate(held):
        phase = (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)[sum(i >= at for at in breaks)]
        points.append(TimelinePoint(event=sum(gaps[1 : i + 1]), phase=phase, by_category=by_category))
    return Timeline(points=tuple(points), events=points[-1].event + draw(st.integers(0, 5)))


def number(percent: str) -> float:
    return float(percent.removesuffix("%"))


@given(sizes=st.lists(SIZES, min_size=1, max_size=9), room=st.integers(1, 10**6))
def test_a_stack_ends_where_its_sum_does_and_no_layer_is_off_by_more_than_a_unit(sizes: list[int], room: int) -> None:
    total = sum(sizes)
    ends = edges(sizes, total, room)
    assert ends == sorted(ends)
    assert ends[-1] == (room if total else 0)
    for size, start, end in zip(sizes, [0, *ends], ends, strict=False):
        assert total == 0 or abs((end - start) - size * room / total) <= 1


@given(st.dictionaries(st.sampled_from(Category), SIZES, min_size=1))
def test_segments_of_a_bar_touch_and_add_up_to_it(sizes: dict[Category, int]) -> None:
    parts = segments(sizes, sum(sizes.values()))
    assert [part.category for part in parts] == [category for category in Category if sizes.get(category)]
    assert sum(part.bytes for part in parts) == sum(sizes.values())
    end = 0.0
    for part in parts:
        assert number(part.x) == pytest.approx(end, abs=0.011)
        end = number(part.x) + number(part.width)
    assert not parts or end == pytest.approx(100, abs=0.011)


def test_a_segment_is_as_long_as_its_share() -> None:
    sizes = {Category.PARAMETERS: GIB, Category.ACTIVATIONS: 2 * GIB, Category.FREE: 5 * GIB}
    assert [(part.x, part.width) for part in segments(sizes, 8 * GIB)] == [
        ("0.00%", "12.50%"),
        ("12.50%", "25.00%"),
        ("37.50%", "62.50%"),
    ]


@given(st.integers(0, 2**50))
def test_ticks_of_bytes_are_multiples_of_a_power_of_two_up_to_the_highest(highest: int) -> None:
    ticks = byte_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] <= highest
    if highest >= 3:
        step = ticks[1]
        assert step & (step - 1) == 0
        assert ticks == list(range(0, highest + 1, step))
        assert 4 <= len(ticks) <= 6


def test_ticks_of_a_card_are_those_a_reader_expects() -> None:
    assert byte_ticks(12 * GIB) == [0, 4 * GIB, 8 * GIB, 12 * GIB]
    assert byte_ticks(GIB) == [256 * MIB * i for i in range(5)]


@given(st.integers(0, 10**12))
def test_ticks_of_counts_are_few_and_round(highest: int) -> None:
    ticks = count_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] <= highest
    assert len(ticks) <= 5
    if highest >= 1:
        assert str(ticks[1]).rstrip("0") in ("1", "2", "5")
        assert len(ticks) >= 2


_COMMANDS = re.compile(r"([MHV])(\d+)(?: (\d+))?")


def inside(layer: Layer, x: float, y: float) -> bool:
    """Whether a place lies in the area that the path encloses, by the number of edges to the right of it."""
    corners, at = [], (0, 0)
    for letter, one, other in _COMMANDS.findall(layer.path):
        at = {"M": (int(one), int(other or 0)), "H": (int(one), at[1]), "V": (at[0], int(one))}[letter]
        corners.append(at)
    crossings = 0
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        assert x0 == x1 or y0 == y1, "an edge is neither level nor upright"
        crossings += x0 == x1 > x and min(y0, y1) <= y < max(y0, y1)  # half open: y may be that of a corner
    return crossings % 2 == 1


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_each_moment_of_the_chart_shows_what_was_held_then(step: Timeline) -> None:
    chart = area_chart(step)
    ceiling = max(step.peak.bytes * 115 // 100, 1)
    lasting = zip(step.points, [*(point.event for point in step.points[1:]), step.events + 1], strict=True)
    for tops, (point, end) in zip(boundaries(step, ceiling), lasting, strict=True):
        x = (point.event if point is not step.points[0] else 0) / 2 + end / 2
        for index, (category, bottom, top) in enumerate(zip(INKS, [0, *tops], tops, strict=False)):
            assert abs((top - bottom) - point.by_category.get(category, 0) * HEIGHT / ceiling) <= 1
            if top > bottom:
                shown = [layer.category for layer in chart.layers if inside(layer, x, HEIGHT - (bottom + top) / 2)]
                assert shown == [category], (index, shown)
        assert not any(inside(layer, x, (HEIGHT - tops[-1]) / 2) for layer in chart.layers if tops[-1] < HEIGHT)


@given(timelines())
@settings(max_examples=60, deadline=None)
def test_names_of_phases_stand_below_their_phase_and_not_on_each_other(step: Timeline) -> None:
    phases = area_chart(step).phases
    assert [name.label for name in phases] == list(dict.fromkeys(point.phase.value for point in step.points))
    assert number(phases[0].at) == 0
    taken: dict[int, float] = {}
    for name in phases:
        left = 76.0 if name.to_the_left else number(name.at)
        assert left + 24 <= 100
        assert left >= taken.get(name.row, 0) - 0.01
        taken[name.row] = left + 24


def test_the_peak_is_marked_where_it_is() -> None:
    chart = area_chart(timeline())
    assert chart.peak_label == "2.34 GiB in backward"
    assert number(chart.peak_x) == pytest.approx(100 * 97.5 / 241, abs=0.01)
    assert number(chart.peak_y) == pytest.approx(100 - 100 / 1.15, abs=0.01)
    assert chart.peak_anchor == "middle"


def test_columns_of_the_table_are_the_highest_moment_of_each_phase() -> None:
    held = [(Phase.FORWARD, 3), (Phase.FORWARD, 7), (Phase.BACKWARD, 9), (Phase.BACKWARD, 2)]
    points = [
        TimelinePoint(event=i, phase=phase, by_category={Category.ACTIVATIONS: size})
        for i, (phase, size) in enumerate(held)
    ]
    chart = area_chart(Timeline(points=tuple(points), events=3))
    assert chart.columns == [
        (Phase.FORWARD, {Category.ACTIVATIONS: 7}),
        (Phase.BACKWARD, {Category.ACTIVATIONS: 9}),
    ]


def test_a_step_that_holds_nothing_is_drawn_empty() -> None:
    chart = area_chart(Timeline(points=(TimelinePoint(event=0, phase=Phase.FORWARD, by_category={}),), events=0))
    assert chart.layers == []
    assert (chart.peak_x, chart.peak_y) == ("50.00%", "100.00%")


def test_trials_lie_at_their_size_and_peak_below_the_limit() -> None:
    chart = trials_chart(MEMORY.trials, GPU)
    ceiling, right = 12 * GIB * 108 // 100, 1600 * 108 // 100
    for mark, trial in zip(chart.marks, MEMORY.trials, strict=True):
        assert number(mark.x) == pytest.approx(100 * trial.batch_size / right, abs=0.01)
        assert number(mark.y) == pytest.approx(100 - 100 * trial.peak_reserved_bytes / ceiling, abs=0.01)
        assert number(mark.y) > number(chart.limit.at)
    assert [mark.kind for mark in chart.marks] == ["fits", "fits", "fits", "fails", "fits", "fails"]
    assert chart.marks[3].label == "1,600: out of memory in backward, 10.6 GiB"
    assert (chart.limit.label, trials_chart((), CPU).limit.label) == ("12.0 GiB in all", "budget of 1.00 GiB")
    assert [tick.label for tick in chart.sizes] == ["0", "500", "1,000", "1,500"]
    assert [mark.kind for mark in trials_chart(THRASHING.trials, GPU).marks].count("thrashes") == 1


def test_what_a_failed_trial_asked_for_is_drawn_on_top_of_what_it_held_and_not_below_the_limit() -> None:
    huge = replace(failed(8), requested_bytes=999 * GIB)
    in_pieces = replace(failed(7), requested_bytes=1)
    chart = trials_chart((ran(1), failed(9), huge, in_pieces), GPU)
    marks = chart.marks
    assert marks[0].wanted == ""
    held = (12_120 + 196) * MIB
    assert number(marks[1].wanted) == pytest.approx(100 - 100 * held / (12.96 * GIB), abs=0.02)
    assert marks[2].wanted == "0.00%"
    assert marks[3].wanted == chart.limit.at
