"""What people see, kept as text files: look at a file after `pytest --overwrite` as a reader would."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vram_cli.records import Result
from vram_cli.report.answer import answer
from vram_cli.report.console import print_answer
from vram_cli.report.tables import trials_table

from .drawing import draw
from .examples import ALL, INTERRUPTED, MEMORY, THRASHING

WIDTHS = (60, 80, 120)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ALL)
def test_answer_off_a_terminal(
    name: str,
    width: int,
    golden: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_answer(answer(ALL[name]))
    printed = capsys.readouterr().out
    assert printed == golden(f"{name}-{width}", printed)
    assert max(len(line) for line in printed.splitlines()) <= width
    assert all(line == line.rstrip() for line in printed.splitlines())


@pytest.mark.parametrize("width", WIDTHS)
def test_trials(width: int, golden: Callable[[str, str], str]) -> None:
    drawn = draw(trials_table(THRASHING.trials, width), width)
    assert drawn == golden(f"trials-{width}", drawn)


def test_allocated_peaks_give_way_in_a_narrow_console() -> None:
    assert "allocated" in draw(trials_table(MEMORY.trials, 80), 80)
    narrow = draw(trials_table(MEMORY.trials, 60), 60)
    assert "allocated" not in narrow
    assert "reserved" in narrow


def test_without_block_characters(golden: Callable[[str, str], str]) -> None:
    printed = draw(answer(MEMORY), 80, encoding="ascii")
    assert printed == golden("find-batch-memory-80-ascii", printed)
    assert printed.isascii()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("result", [MEMORY, INTERRUPTED])
def test_encodings_without_block_characters_look_like_ascii(encoding: str, result: Result) -> None:
    assert draw(answer(result), 80, encoding) == draw(answer(result), 80, "ascii")
