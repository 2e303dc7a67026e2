"""The answer of `vram compare` as text, Markdown, HTML, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.drawing import draw
from vram_cli.compare.records import Comparison
from vram_cli.compare.report import comparison_document
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.formats.html import to_html
from vram_cli.report.formats.json import to_json
from vram_cli.report.formats.markdown import to_markdown
from vram_cli.report.formats.text import to_text

from .comparisons import COMPARISONS, COMPLETE, DIVERGED, SINGLE


@pytest.mark.parametrize("name", COMPARISONS)
def test_text(name: str, golden: Callable[[str, str], str]) -> None:
    text = draw(to_text(comparison_document(COMPARISONS[name])), 80)
    assert text == golden(f"{name}-80", text)


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("name", COMPARISONS)
def test_text_fits_the_width(name: str, width: int) -> None:
    text = draw(to_text(comparison_document(COMPARISONS[name])), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for table in tables(COMPARISONS[name]):
        assert {" ".join(map(str, row.cells)) for row in table.rows} <= {*lines}


def tables(comparison: Comparison) -> list[doc.Table]:
    return [block for block in comparison_document(comparison).blocks if isinstance(block, doc.Table)]


@pytest.mark.parametrize("name", COMPARISONS)
def test_markdown(name: str, golden: Callable[[str, str], str]) -> None:
    text = to_markdown(comparison_document(COMPARISONS[name]))
    assert text == golden(f"{name}.md", text)


@pytest.mark.parametrize("name", COMPARISONS)
def test_html_has_charts_and_every_finding(name: str) -> None:
    comparison = COMPARISONS[name]
    page = to_html(comparison_document(comparison))
    assert page.count("<svg") == 3
    assert page.count("<li>") == len(comparison.findings)


def test_json_has_every_run() -> None:
    document = json.loads(to_json(DIVERGED), parse_constant=pytest.fail)
    assert document["command"] == "compare"
    assert [run["diverged_at"] for run in document["runs"]] == [None] * 3 + [7] * 3
    assert document["sizes"][0]["accuracy"]["mean"] == pytest.approx(0.933)


def test_single_runs_have_no_std() -> None:
    single, complete = tables(SINGLE)[0], tables(COMPLETE)[0]
    assert single.rows[0].cells[2] == "93.1 %"
    assert single.rows[3].cells[2] == "-"
    assert complete.rows[0].cells[2] == "93.3 ± 0.2 %"


@pytest.mark.parametrize("name", COMPARISONS)
def test_picture(name: str, tmp_path: Path) -> None:
    picture = comparison_document(COMPARISONS[name]).picture
    assert picture is not None
    charts.save_figure(picture(), tmp_path / "sizes.svg")
    svg = (tmp_path / "sizes.svg").read_text()
    assert svg.count("<svg") == 1
    assert len(svg) > 10_000
