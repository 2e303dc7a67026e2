"""Tables in text: rows add up to their total at every width, and no digit is lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.style import Style

from vram_cli.records import OF_ONE_RANK, Breakdown, BreakdownRow, Phase
from vram_cli.report import document as doc
from vram_cli.report.answers.memory import breakdown_table
from vram_cli.report.formats.text import shown_in_text
from vram_cli.report.words import CATEGORY_LABELS

from .drawing import block
from .examples import ALL, GPU, breakdown

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
    text = block(breakdown_table(shown, GPU), width)
    assert_adds_up(text, shown)
    assert max(map(len, text.splitlines())) <= width


@given(
    sizes=st.lists(st.integers(0, 2**50), min_size=len(OF_ONE_RANK), max_size=len(OF_ONE_RANK)).filter(any),
    width=st.integers(60, 200),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)
@settings(max_examples=40, deadline=None)
def test_any_breakdown_adds_up_within_the_width(sizes: list[int], width: int, encoding: str) -> None:
    rows = tuple(BreakdownRow(category=category, bytes=size) for category, size in zip(OF_ONE_RANK, sizes, strict=True))
    made = Breakdown(batch_size=7, rows=rows, total_bytes=sum(sizes), peak_phase=Phase.FORWARD)
    text = block(breakdown_table(made, GPU), width, encoding)
    assert_adds_up(text, made)
    assert max(map(len, text.splitlines())) <= width


def test_empty_categories_have_a_row() -> None:
    made = breakdown(1, GPU, *[0] * 8)
    text = block(breakdown_table(made, GPU))
    assert all(CATEGORY_LABELS[category].split(" and ")[0] in text for category in OF_ONE_RANK)
    assert text.count(" 0 B ") == 9


def test_nothing_at_all_has_no_shares() -> None:
    empty = replace(GPU, capacity_bytes=0)
    assert "0.0 %" in block(breakdown_table(breakdown(1, empty, *[0] * 8), empty))


@pytest.mark.parametrize(
    ("share", "blocks", "hashes"),
    [(0.5, "█" * 20, "#" * 20), (1.0, "█" * 40, "#" * 40), (0.0125, "▌", "."), (1e-9, "▏", "."), (0.0, "", "")],
)
def test_bars_are_as_long_as_their_shares(share: float, blocks: str, hashes: str) -> None:
    columns = doc.Column("", "name"), doc.Column("", "bar")
    table = doc.Table("", columns, (doc.Row(("x", doc.Bar(share))),))
    assert block(table, 120).splitlines()[-1][1:].strip() == blocks
    assert block(table, 120, "ascii").splitlines()[-1][1:].strip() == hashes


def test_colours_follow_the_part_of_what_is_used() -> None:
    gib = 1024**3
    made = breakdown(1, GPU, 1 * gib, 0, 3 * gib, 0, 7 * gib, 0, 0, 0)  # 11 GiB used: 9 %, 27 %, 64 %
    console = Console(width=80, height=25)
    colours = {
        segment.style.color.name
        for segment in console.render(shown_in_text(breakdown_table(made, GPU)))
        if "█" in segment.text and segment.style and segment.style.color
    }
    assert colours == {"green", "yellow", "red"}
    assert Style.parse("red") in {
        segment.style for segment in console.render(shown_in_text(breakdown_table(made, GPU)))
    }


def test_a_name_is_cut_before_a_number_or_a_key() -> None:
    columns = doc.Column("name", "name"), doc.Column("key", "key"), doc.Column("number")
    table = doc.Table("", columns, (doc.Row(("n" * 80, "k" * 30, "1" * 20)),))
    text = block(table, 60)
    assert "k" * 30 in text
    assert "1" * 20 in text
    assert "nnn…" in text
