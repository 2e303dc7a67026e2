"""The printed table: its rows add up to its total at every width, and no digit is lost on the way."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.style import Style

from vram_cli.records import Breakdown, BreakdownRow, Category, Outcome, Phase
from vram_cli.report.tables import Bar, breakdown_table, trials_table
from vram_cli.report.words import CATEGORY_LABELS, OUTCOME_LABELS

from .drawing import draw
from .examples import ALL, GPU, breakdown, failed

EXACT_AND_SHARE = re.compile(r" ([\d,]+)\s+([\d.]+) %")


def printed_numbers(text: str) -> list[tuple[int, float]]:
    """Return exact bytes and share of each row, the total last."""
    found = [EXACT_AND_SHARE.search(line) for line in text.splitlines()]
    return [(int(match[1].replace(",", "")), float(match[2])) for match in found if match]


def assert_adds_up(text: str, of: Breakdown) -> None:
    *rows, total = printed_numbers(text)
    assert [size for size, _ in rows] == [row.bytes for row in of.rows]
    assert sum(size for size, _ in rows) == total[0] == of.total_bytes
    for size, share in rows:
        assert share == pytest.approx(100 * size / of.total_bytes, abs=0.051)


@pytest.mark.parametrize("width", range(60, 141, 5))
@pytest.mark.parametrize("name", [name for name, result in ALL.items() if result.breakdown])
def test_printed_rows_add_up_to_the_printed_total(name: str, width: int) -> None:
    shown = ALL[name].breakdown
    assert shown is not None
    text = draw(breakdown_table(shown, GPU, width), width)
    assert_adds_up(text, shown)
    assert max(map(len, text.splitlines())) <= width


@given(
    sizes=st.lists(st.integers(0, 2**50), min_size=len(Category), max_size=len(Category)).filter(any),
    width=st.integers(60, 200),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
@settings(max_examples=40, deadline=None)
def test_any_breakdown_adds_up_and_stays_within_the_width(sizes: list[int], width: int, encoding: str) -> None:
    rows = tuple(BreakdownRow(category=category, bytes=size) for category, size in zip(Category, sizes, strict=True))
    made = Breakdown(batch_size=7, rows=rows, total_bytes=sum(sizes), peak_phase=Phase.FORWARD)
    text = draw(breakdown_table(made, GPU, width), width, encoding)
    assert_adds_up(text, made)
    assert max(map(len, text.splitlines())) <= width


def test_every_category_has_a_row_also_when_it_is_empty() -> None:
    made = breakdown(1, GPU, *[0] * 8)
    text = draw(breakdown_table(made, GPU, 80), 80)
    assert all(label in text for label in CATEGORY_LABELS.values())
    assert text.count(" 0 B ") == 8


def test_nothing_at_all_has_no_shares() -> None:
    empty = replace(GPU, capacity_bytes=0)
    assert "0.0 %" in draw(breakdown_table(breakdown(1, empty, *[0] * 8), empty, 80), 80)


def test_bars_are_as_long_as_their_shares() -> None:
    assert draw(Bar(0.5, 10, "green"), 80) == "█████\n"
    assert draw(Bar(1.0, 10, "green"), 80) == "██████████\n"
    assert draw(Bar(0.04375, 10, "green"), 80) == "▌\n"
    assert draw(Bar(0.5, 10, "green"), 80, "ascii") == "#####\n"


def test_a_tiny_share_leaves_a_mark_and_none_leaves_none() -> None:
    assert draw(Bar(1e-9, 10, "green"), 80) == "▏\n"
    assert draw(Bar(1e-9, 10, "green"), 80, "ascii") == ".\n"
    assert draw(Bar(0.0, 10, "green"), 80) == "\n"


def test_colours_follow_the_part_of_what_is_used() -> None:
    gib = 1024**3
    made = breakdown(1, GPU, 1 * gib, 0, 3 * gib, 0, 7 * gib, 0, 0, 0)  # 11 GiB used: 9 %, 27 %, 64 %
    console = Console(width=80, height=25)
    colours = {
        segment.style.color.name
        for segment in console.render(breakdown_table(made, GPU, 80))
        if "█" in segment.text and segment.style and segment.style.color
    }
    assert colours == {"green", "yellow", "red"}
    assert Style.parse("red") in {segment.style for segment in console.render(breakdown_table(made, GPU, 80))}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.FITS])
def test_each_way_to_fail_is_named_whole_at_every_width(outcome: Outcome, width: int) -> None:
    trial = failed(1_000_003, outcome, Phase.BUILD)
    text = " ".join(draw(trials_table([trial], width), width).split())
    assert "1,000,003" in text
    assert OUTCOME_LABELS[outcome].split()[0] in text
    assert "building" in text
