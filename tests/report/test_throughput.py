"""Speed beside memory, in every format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from vram_cli.errors import ConfigError
from vram_cli.records import FindBatchResult
from vram_cli.report.answers.find_batch import headline
from vram_cli.report.answers.throughput import throughput_section
from vram_cli.report.formats.json import to_json
from vram_cli.report.next_step import again
from vram_cli.report.progress import SearchProgress
from vram_cli.report.saved import from_json
from vram_cli.search import pace_of, throughput_of

from .drawing import WIDTHS, assert_within, block, html, text
from .drawing import markdown as as_markdown
from .examples import MEMORY
from .page import Page
from .speeds import CURVE, CUT_SHORT, TIMED, pace


@pytest.mark.parametrize("width", WIDTHS)
def test_table_keeps_its_figures_at_any_width(width: int) -> None:
    assert TIMED.throughput is not None
    drawn = block(throughput_section(TIMED, TIMED.throughput), width)
    assert_within(width, drawn)
    for figures in (("512", "11,800", "-1.4 +1.4 %", "20", "3.67 GiB", "knee"), ("1", "180", "100", "200 MiB")):
        assert any(all(figure in line for figure in figures) for line in drawn.splitlines())
    assert ("43.4 ms" in drawn) is (width >= 80)


@pytest.mark.parametrize(("name", "result"), [("timed", TIMED), ("cut-short", CUT_SHORT)])
def test_the_answer(name: str, result: FindBatchResult, golden: Callable[[str, str], str]) -> None:
    drawn = text(result)
    assert drawn == golden(f"find-batch-{name}-80", drawn)


def test_the_headline_names_both_the_largest_and_the_fastest() -> None:
    lines = dict(headline(TIMED))
    assert lines["Largest batch size:"].startswith("1,536 (")
    assert lines["Fastest:"] == "1,536 (12,300 samples/s; 1,024 within its spread)"
    assert lines["Knee:"] == "512 (11,800 samples/s; smallest size within 5 % of the fastest)"
    assert "Fastest:" not in dict(headline(MEMORY))


def test_interrupted_timing_keeps_the_largest() -> None:
    lines = dict(headline(CUT_SHORT))
    assert lines["Largest batch size:"].startswith("1,536 (")
    assert lines["Fastest so far:"].startswith("4 (690 samples/s")
    assert lines["Interrupted:"] == "after 3 of 13 sizes were timed"
    assert dict(headline(replace(CUT_SHORT, throughput=None)))["Interrupted:"] == "before any size was timed"
    unexplained = replace(MEMORY, interrupted=True, breakdown=None)
    assert dict(headline(unexplained))["Interrupted:"] == "before the breakdown was measured"


def test_the_same_question_can_be_asked_again() -> None:
    assert "search.objective=throughput" in again(TIMED).words


@pytest.mark.parametrize("result", [TIMED, CUT_SHORT])
def test_what_was_timed_comes_back_from_a_file_as_it_was(result: FindBatchResult) -> None:
    assert from_json(to_json(result), "here") == result


def test_the_keys_that_readers_of_the_json_rely_on() -> None:
    found = json.loads(to_json(TIMED))["throughput"]
    assert (found["fastest_batch_size"], found["knee_batch_size"], found["within"]) == (1536, 512, 0.05)
    assert (found["as_fast"], found["sizes"]) == ([1024], 13)
    assert [row["batch_size"] for row in found["paces"]] == list(CURVE)
    row = found["paces"][-1]
    assert row.keys() == {
        "batch_size", "samples", "steps", "step_seconds", "samples_per_second", "low", "high"
    }  # fmt: skip
    assert (row["samples"], row["steps"]) == (1536, 20)
    assert row["samples_per_second"] == pytest.approx(12_300)
    assert row["low"] < row["samples_per_second"] < row["high"]
    assert json.loads(to_json(MEMORY))["throughput"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knee_batch_size": 3}, "here: throughput: batch size 3 was not timed"),
        ({"paces": []}, "here: throughput: batch size .* was not timed"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(to_json(TIMED))
    document["throughput"].update(change)
    with pytest.raises(ConfigError, match=message):
        from_json(json.dumps(document), "here")


def test_markdown_and_page_have_every_figure_of_the_table(golden: Callable[[str, str], str]) -> None:
    markdown, page = as_markdown(TIMED), Page(html(TIMED))
    assert markdown == golden("report-throughput.md", markdown)
    for size, speed, steps, peak in (("512", "11,800", "20", "3.67 GiB"), ("1", "180", "100", "200 MiB")):
        assert re.search(rf"\| {size} \| {speed} \| [^|]+ \| [^|]+ \| {steps} \| {peak} \|", markdown)
        assert all(figure in page.text for figure in (size, speed, steps, peak))
    assert "a difference within it is noise" in markdown
    assert "a difference within it is noise" in page.text
    assert "13 sizes, 20 to 100 steps each" in page.text
    assert "Speed and memory" not in Page(html(MEMORY)).text


def test_progress_says_how_fast_a_size_was(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress() as progress:
        progress.timed(pace(512, 11_800))
    assert capsys.readouterr().err == "        512  11,800 samples/s (half of 20 steps: 11,600 to 12,000)\n"
    with SearchProgress(quiet=True) as progress:
        progress.timed(pace(512, 11_800))
    assert capsys.readouterr().err == ""


def test_sizes_that_spread_into_each_other_are_not_ranked() -> None:
    curve = [pace_of(8, 1, [0.9, 1.0, 1.1, 1.2]), pace_of(16, 1, [1.9, 2.0, 2.1, 2.4])]
    noisy = replace(TIMED, throughput=throughput_of(curve, 2))
    assert dict(headline(noisy))["Fastest:"] == "16 (7.80 samples/s; 8 within its spread)"
