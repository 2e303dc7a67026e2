"""Speed beside memory: tables, pages and pictures say what was measured, on how many steps, and how far to trust it."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError
from vram_cli.records import Result
from vram_cli.report.answer import answer
from vram_cli.report.headline import headline
from vram_cli.report.html import to_html
from vram_cli.report.html.paces import paces_chart
from vram_cli.report.markdown import to_markdown
from vram_cli.report.next_step import again
from vram_cli.report.plot import save_plot
from vram_cli.report.progress import SearchProgress
from vram_cli.report.saved import from_json, to_json
from vram_cli.report.throughput import pace_table
from vram_cli.report.words import step_time, three_digits
from vram_cli.search import throughput_of, throughput_point

from .drawing import draw
from .examples import MEMORY
from .page import Page
from .speeds import CURVE, CUT_SHORT, TIMED, pace, throughput


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table(width: int, golden: Callable[[str, str], str]) -> None:
    assert TIMED.throughput is not None
    text = draw(pace_table(TIMED, TIMED.throughput, width), width)
    assert text == golden(f"throughput-{width}", text)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(("name", "result"), [("timed", TIMED), ("cut-short", CUT_SHORT)])
def test_the_answer(name: str, result: Result, golden: Callable[[str, str], str]) -> None:
    drawn = draw(answer(result), 80)
    assert drawn == golden(f"find-batch-{name}-80", drawn)


def test_the_headline_names_both_the_largest_and_the_fastest() -> None:
    lines = dict(headline(TIMED))
    assert lines["Largest batch size:"].startswith("1,536 (")
    assert lines["Fastest:"] == "1,536 (12,300 samples/s; 1,024 within its spread)"
    assert lines["Knee:"] == "512 (11,800 samples/s; smallest timed within 5 % of the fastest)"
    assert "Fastest:" not in dict(headline(MEMORY))


def test_interrupted_while_sizes_were_timed_the_largest_is_still_the_answer() -> None:
    lines = dict(headline(CUT_SHORT))
    assert lines["Largest batch size:"].startswith("1,536 (")
    assert lines["Fastest so far:"].startswith("4 (690 samples/s")
    assert lines["Interrupted:"] == "3 of 13 sizes had been timed"
    assert dict(headline(replace(CUT_SHORT, throughput=None)))["Interrupted:"] == "before a size was timed"
    unexplained = replace(MEMORY, interrupted=True, breakdown=None)
    assert dict(headline(unexplained))["Interrupted:"] == "before the memory was accounted for"


def test_the_same_question_can_be_asked_again() -> None:
    assert "search.objective=throughput" in again(TIMED).words


@pytest.mark.parametrize("result", [TIMED, CUT_SHORT])
def test_what_was_timed_comes_back_from_a_file_as_it_was(result: Result) -> None:
    assert from_json(to_json(result), "here") == result


def test_the_keys_that_readers_of_the_json_rely_on() -> None:
    found = json.loads(to_json(TIMED))["throughput"]
    assert (found["fastest_batch_size"], found["knee_batch_size"], found["knee_tolerance"]) == (1536, 512, 0.05)
    assert (found["tied_with_fastest"], found["sizes"]) == ([1024], 13)
    assert [row["batch_size"] for row in found["points"]] == list(CURVE)
    row = found["points"][-1]
    assert row.keys() == {
        "batch_size", "samples", "steps", "step_seconds", "samples_per_second", "q25", "q75"
    }  # fmt: skip
    assert (row["samples"], row["steps"]) == (1536, 20)
    assert row["samples_per_second"] == pytest.approx(12_300)
    assert row["q25"] < row["samples_per_second"] < row["q75"]
    assert json.loads(to_json(MEMORY))["throughput"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knee_batch_size": 3}, "here: throughput: batch size 3 was not timed"),
        ({"points": []}, "here: throughput: batch size .* was not timed"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(to_json(TIMED))
    document["throughput"].update(change)
    with pytest.raises(ConfigError, match=message):
        from_json(json.dumps(document), "here")


def test_markdown_and_page_have_every_figure_of_the_table(golden: Callable[[str, str], str]) -> None:
    markdown, page = to_markdown(TIMED), Page(to_html(TIMED))
    assert markdown == golden("report-throughput.md", markdown)
    for size, speed, steps, peak in (("512", "11,800", "20", "3.67 GiB"), ("1", "180", "100", "200 MiB")):
        assert re.search(rf"\| {size} \| {speed} \| [^|]+ \| [^|]+ \| {steps} \| {peak} \|", markdown)
        assert all(figure in page.text for figure in (size, speed, steps, peak))
    assert "a difference within it is noise" in markdown
    assert "a difference within it is noise" in page.text
    assert "13 sizes, 20 to 100 steps each" in page.text
    assert "Speed and memory" not in Page(to_html(MEMORY)).text


def test_the_chart_rises_with_speed_and_names_fastest_and_knee() -> None:
    assert TIMED.throughput is not None
    chart = paces_chart(TIMED.throughput)
    across, down = ([float(getattr(mark, at)[:-1]) for mark in chart.marks] for at in ("x", "y"))
    assert across == sorted(across)
    assert all(0 < place < 100 for place in (*across, *down))
    speeds = list(CURVE.values())
    assert sorted(range(len(down)), key=lambda i: -down[i]) == sorted(range(len(speeds)), key=lambda i: speeds[i])
    assert {mark.label.split(":")[0]: mark.role for mark in chart.marks if mark.role} == {
        "512": "knee",
        "1,536": "fastest",
    }
    labelled = [float(tick.at[:-1]) for tick in chart.sizes]
    assert all(after - before > 15 for before, after in itertools.pairwise(labelled))
    # Doubling is a step of the same length.
    assert math.isclose(across[1] - across[0], across[2] - across[1], abs_tol=0.02)


def test_a_single_size_stands_in_the_middle() -> None:
    (mark,) = paces_chart(throughput({8: 100.0})).marks
    assert (mark.x, mark.role) == ("50.00%", "fastest, knee")


def test_the_picture_shows_memory_and_speed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save_plot(TIMED, tmp_path / "trials.svg")
    shown = set(re.findall(r"<!-- (.*?) -->", (tmp_path / "trials.svg").read_text(encoding="utf-8")))
    assert {"Peak memory of each trial (measured)", "Samples per second by batch size (measured)"} <= shown
    assert {"fastest: 1,536 (12,300 samples/s)", "knee: 512 (11,800 samples/s)", "samples/s"} <= shown
    save_plot(replace(CUT_SHORT, breakdown=None), tmp_path / "short.png")


def test_progress_says_how_fast_a_size_was(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress() as progress:
        progress.timed(pace(512, 11_800))
    assert capsys.readouterr().err == "        512  11,800 samples/s (half of 20 steps: 11,600 to 12,000)\n"
    with SearchProgress(quiet=True) as progress:
        progress.timed(pace(512, 11_800))
    assert capsys.readouterr().err == ""


def test_sizes_that_spread_into_each_other_are_not_ranked() -> None:
    curve = [throughput_point(8, 1, [0.9, 1.0, 1.1, 1.2]), throughput_point(16, 1, [1.9, 2.0, 2.1, 2.4])]
    noisy = replace(TIMED, throughput=throughput_of(curve, 2))
    assert dict(headline(noisy))["Fastest:"] == "16 (7.80 samples/s; 8 within its spread)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"), (0.9996, "1.00"), (4.556, "4.56"), (9.996, "10.0"), (78.94, "78.9"), (99.96, "100"),
        (999.6, "1,000"), (12_345, "12,300"), (1_234_567, "1,230,000"),
    ],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_the_time_of_a_step() -> None:
    assert [step_time(seconds) for seconds in (0.000412, 0.0456, 0.9996, 12.3)] == [
        "0.412 ms",
        "45.6 ms",
        "1.00 s",
        "12.3 s",
    ]
