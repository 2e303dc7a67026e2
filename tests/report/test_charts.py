"""Charts as pictures and as inline SVG; without matplotlib, the way to get it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vram_cli.cli.output import document_of
from vram_cli.errors import ConfigError, MachineError
from vram_cli.records import BreakdownResult, FindBatchResult
from vram_cli.report import charts
from vram_cli.report.charts import check_plot, inline_svg, save_figure

from .examples import BREAKDOWN, GPU, INTERRUPTED, THRASHING, detailed
from .page import Page
from .speeds import CUT_SHORT, TIMED

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def matplotlib() -> None:
    pytest.importorskip("matplotlib")


def save(result: FindBatchResult | BreakdownResult, path: Path) -> None:
    picture = document_of(result).picture
    assert picture is not None
    save_figure(picture(), path)


def words(result: FindBatchResult | BreakdownResult) -> str:
    """Return the text of the picture, as a page has it."""
    picture = document_of(result).picture
    assert picture is not None
    return Page(inline_svg(picture(), "chart")).text


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("result", [detailed(), THRASHING, INTERRUPTED, TIMED], ids=["step", "search", "part", "speed"])
@pytest.mark.usefixtures("matplotlib")
def test_picture_of_each_kind(result: FindBatchResult | BreakdownResult, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    save(result, path)
    assert path.read_bytes().startswith({".png": PNG, ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


@pytest.mark.usefixtures("matplotlib")
def test_search_is_drawn_as_breakdown_and_trials() -> None:
    shown = words(THRASHING)
    for text in (
        "Peak memory of each trial (measured)", "peak reserved, GiB", "memory: 12.0 GiB", "fits, but thrashes",
        "did not fit", "Peak memory at batch size 1,536, in backward (measured)", "activations 9.51 GiB",
    ):  # fmt: skip
        assert text in shown
    assert "activations" not in words(INTERRUPTED)


@pytest.mark.usefixtures("matplotlib")
def test_search_with_speeds_marks_fastest_and_knee() -> None:
    shown = words(TIMED)
    assert "Samples per second by batch size (measured)" in shown
    assert "fastest: 1,536 (12,300 samples/s)" in shown
    assert "knee: 512 (11,800 samples/s)" in shown
    assert "Samples per second" in words(replace(CUT_SHORT, breakdown=None))


@pytest.mark.usefixtures("matplotlib")
def test_breakdown_is_drawn_with_its_timeline() -> None:
    shown = words(detailed())
    for text in ("Memory over one step at batch size 128 (measured)", "forward", "backward", "optimizer", "2.34 GiB"):
        assert text in shown
    assert "free 17.7 GiB" in shown
    with pytest.raises(ConfigError, match="no timeline"):
        words(BREAKDOWN)


@pytest.mark.usefixtures("matplotlib")
def test_names_are_not_taken_for_formulas() -> None:
    gpu = replace(GPU, kind="simulated", name="$\\frac{$")
    assert "$\\frac{$" in words(replace(THRASHING, run=replace(THRASHING.run, device=gpu)))


@pytest.mark.usefixtures("matplotlib")
def test_inline_svg_has_ids_of_its_own_and_follows_the_theme() -> None:
    one, other = (inline_svg(charts.trials_figure(THRASHING.trials, GPU), name) for name in ("one", "other"))
    assert one.startswith("<svg viewBox=")
    assert one.endswith("</svg>")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "currentColor" in one
    assert "http" not in one


def test_without_matplotlib_the_hint_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="matplotlib") as error:
        check_plot(tmp_path / "step.png")
    assert "vram-cli[plot]" in error.value.hint


@pytest.mark.parametrize("name", ["step.jpg", "step"])
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown picture format") as error:
        check_plot(tmp_path / name)
    assert ".png" in error.value.hint


def test_existing_file_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: object())
    (tmp_path / "step.png").write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        check_plot(tmp_path / "step.png")
    check_plot(tmp_path / "step.png", force=True)
