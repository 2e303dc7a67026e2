"""The timeline as a picture; without matplotlib, what is said of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError, MachineError
from vram_cli.records import Result
from vram_cli.report import plot
from vram_cli.report.plot import check_plot, save_plot

from .examples import BREAKDOWN, GPU, INTERRUPTED, THRASHING, detailed

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("result", [detailed(), THRASHING, INTERRUPTED], ids=["timeline", "trials", "no-breakdown"])
def test_a_picture_of_each_kind(result: Result, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"step{suffix}"
    check_plot(path)
    save_plot(result, path)
    content = path.read_bytes()
    assert content.startswith({".png": PNG, ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def words(result: Result, path: Path) -> set[str]:
    """Return the texts of the picture: matplotlib leaves each as a comment beside its outlines."""
    pytest.importorskip("matplotlib")
    save_plot(result, path)
    return set(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8")))


def test_a_search_is_drawn_as_its_trials_below_the_breakdown(tmp_path: Path) -> None:
    shown = words(THRASHING, tmp_path / "trials.svg")
    assert {"Peak memory of each trial (measured)", "batch size", "peak reserved, GiB", "12.0 GiB in all"} <= shown
    assert {"fits", "fits, but thrashes", "did not fit"} <= shown
    assert {"Peak memory at batch size 1,536, in backward (measured)", "activations 9.51 GiB"} <= shown
    assert "activations 9.51 GiB" not in words(INTERRUPTED, tmp_path / "interrupted.svg")


def test_a_breakdown_is_drawn_with_its_timeline(tmp_path: Path) -> None:
    shown = words(detailed(), tmp_path / "step.svg")
    assert {"Memory over one step at batch size 128 (measured)", "forward", "backward", "optimizer"} <= shown
    assert {"in tensors, GiB", "free 17.7 GiB"} <= shown
    with pytest.raises(ValueError, match="without a timeline"):
        save_plot(BREAKDOWN, tmp_path / "none.svg")


def test_a_name_is_not_taken_for_a_formula(tmp_path: Path) -> None:
    result = replace(THRASHING, run=replace(THRASHING.run, device=replace(GPU, kind="simulated", name="$\\frac{$")))
    assert any("$\\frac{$" in text for text in words(result, tmp_path / "formula.svg"))


def test_without_matplotlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="matplotlib") as error:
        check_plot(tmp_path / "step.png")
    assert "vram-cli[plot]" in error.value.hint
    with pytest.raises(MachineError, match="matplotlib"):
        save_plot(detailed(), tmp_path / "step.png")


@pytest.mark.parametrize("name", ["step.jpg", "step"])
def test_other_kinds_of_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a kind of picture") as error:
        check_plot(tmp_path / name)
    assert ".png" in error.value.hint


def test_a_file_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: object())
    (tmp_path / "step.png").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        check_plot(tmp_path / "step.png")
    check_plot(tmp_path / "step.png", force=True)
