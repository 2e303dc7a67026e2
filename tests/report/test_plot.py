"""The timeline as a picture; without matplotlib, what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vram_cli.errors import ConfigError, MachineError
from vram_cli.report import plot
from vram_cli.report.plot import check_plot, save_plot

from .examples import BREAKDOWN, GPU, detailed

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_of_each_kind(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"step{suffix}"
    made = detailed().breakdown
    assert made is not None
    check_plot(path)
    save_plot(made, GPU, path)
    content = path.read_bytes()
    assert content.startswith({".png": PNG, ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def test_without_matplotlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="matplotlib") as error:
        check_plot(tmp_path / "step.png")
    assert "vram-cli[plot]" in error.value.hint
    made = detailed().breakdown
    assert made is not None
    with pytest.raises(MachineError, match="matplotlib"):
        save_plot(made, GPU, tmp_path / "step.png")


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


def test_a_breakdown_without_a_timeline_has_no_picture(tmp_path: Path) -> None:
    assert BREAKDOWN.breakdown is not None
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="without a timeline"):
        save_plot(BREAKDOWN.breakdown, GPU, tmp_path / "step.png")
