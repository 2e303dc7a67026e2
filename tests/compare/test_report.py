"""The answer of `vram compare`: as text, as Markdown, as JSON, as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.drawing import draw
from vram_cli.compare.markdown import comparison_to_markdown
from vram_cli.compare.plot import save_comparison_plot
from vram_cli.compare.report import comparison_text, tables
from vram_cli.report.saved import to_json

from .comparisons import COMPARISONS, COMPLETE, DIVERGED, SINGLE


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", COMPARISONS)
def test_text(name: str, width: int, golden: Callable[[str, str], str]) -> None:
    drawn = draw(comparison_text(COMPARISONS[name]), width)
    assert drawn == golden(f"{name}-{width}", drawn)
    assert max(map(len, drawn.splitlines())) <= width
    assert "…" not in drawn


@pytest.mark.parametrize("name", COMPARISONS)
def test_markdown(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = comparison_to_markdown(COMPARISONS[name])
    assert drawn == golden(f"{name}.md", drawn)


def test_json_has_every_run_and_no_number_that_json_lacks() -> None:
    document = json.loads(to_json(DIVERGED), parse_constant=pytest.fail)
    assert document["command"] == "compare"
    assert [run["diverged_at"] for run in document["runs"]] == [None] * 3 + [7] * 3
    assert document["sizes"][0]["accuracy"]["mean"] == pytest.approx(0.933)


def test_what_cannot_be_said_of_a_single_run_is_not() -> None:
    (_, _, learned), *_ = tables(SINGLE)
    assert learned[0][2] == "93.1 %"
    assert learned[3][2] == "-"
    (_, _, learned), *_ = tables(COMPLETE)
    assert learned[0][2] == "93.3 ± 0.2 %"


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_picture_is_drawn_of_whatever_is_known(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sizes.svg"
    save_comparison_plot(COMPARISONS[name], path)
    drawn = path.read_text()
    assert drawn.count("<svg") == 1
    assert len(drawn) > 10_000
