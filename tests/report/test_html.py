"""The page of a result: the words of the terminal, nothing from elsewhere, and names that stay names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from vram_cli.cli.output import document_of
from vram_cli.errors import ConfigError
from vram_cli.records import BreakdownResult, Category, FindBatchResult, ModuleShare, TensorInfo
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.formats.html import check_report, save_report, to_html
from vram_cli.report.palette import COLOURS

from .drawing import body, html
from .examples import ALL, BREAKDOWN, GPU, INTERRUPTED, MEMORY, detailed, detailed_search, failed, ran, short
from .page import Page, assert_page_needs_nothing
from .test_saved import RESULTS

HOSTILE = '</title></style><script>alert(1)</script><img src=x onerror="alert(2)">\'{{ 7*7 }}&amp;\x1b[0m\u202e'
VISIBLE = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
EVERY = {**ALL, "detailed": detailed(), "detailed-search": detailed_search()}


@pytest.mark.parametrize(("name", "result"), [("report-find-batch", MEMORY), ("report-breakdown", short())])
def test_body_without_charts(
    name: str,
    result: FindBatchResult | BreakdownResult,
    golden: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)
    drawn = body(html(result))
    assert drawn == golden(f"{name}.html", drawn)
    assert "pip install 'vram-cli[plot]'" in Page(html(result)).text


@pytest.mark.parametrize("name", EVERY)
def test_page_is_whole_and_loads_nothing(name: str) -> None:
    assert_page_needs_nothing(html(EVERY[name]))


@given(RESULTS)
@settings(max_examples=30, deadline=None)
def test_any_result_becomes_a_well_formed_page(result: FindBatchResult | BreakdownResult) -> None:
    page = Page(html(result))
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize("name", EVERY)
def test_it_has_the_words_of_the_terminal(name: str) -> None:
    result = EVERY[name]
    document = document_of(result)
    text = Page(to_html(document)).text
    sections = [
        part for part in document.blocks if isinstance(part, doc.Details) and part.title.startswith("How it was")
    ]
    pairs = next(part.blocks[0] for part in sections if "html" in part.formats)
    assert isinstance(pairs, doc.Pairs)
    for label, words in (document.heading, *document.summary, *pairs.lines):
        assert f"{label} {' '.join(words.split())}" in text


def test_proof_has_all_the_words_of_the_exception() -> None:
    assert MEMORY.certificate is not None
    assert f"1,537 ran out of memory in backward: {MEMORY.certificate.message}" in Page(html(MEMORY)).text


def test_predictions_are_called_predictions_and_say_how_good_they_are() -> None:
    device = replace(
        GPU, kind="simulated", name="RTX 4090", accuracy="off by 2.5 % (median of 11)", limit_enforced_by=""
    )
    for result in (MEMORY, short()):
        text = Page(html(replace(result, run=replace(result.run, device=device, remark="no GPU here")))).text
        assert "off by 2.5 % (median of 11)" in text
        assert "How it was predicted" in text
        assert "no GPU here" in text
        assert "measured" not in text.lower()


def test_what_was_not_measured_is_left_out() -> None:
    assert "over one step" not in html(BREAKDOWN)
    assert "by module" not in html(BREAKDOWN)
    assert "Peak memory at" not in html(INTERRUPTED)
    assert "of each trial" not in html(replace(MEMORY, trials=()))


def test_figures_behind_the_charts_are_in_tables() -> None:
    text = Page(html(replace(detailed_search(), trials=(ran(8), failed(9))))).text
    assert "activations 5.45 GiB 5,848,646,272 22.7 %" in text
    assert "total 24.0 GiB 25,769,803,776 100.0 %" in text
    assert "in tensors 2.21 GiB 2.24 GiB 472 MiB" in text
    assert "9 out of memory in backward 10.6 GiB 10.6 GiB 1.4" in text
    assert "layer1 5.06 GiB 88.3 %" in text


def test_trials_without_a_peak_are_counted() -> None:
    killed = replace(MEMORY, trials=(ran(1), replace(failed(9), peaks=())))
    assert "1 trial without a peak is not in the chart" in Page(html(killed)).text


def test_charts_have_a_title_and_a_description() -> None:
    page = Page(html(detailed_search()))
    shown = page.all("svg", role="img")
    assert [chart["aria-labelledby"] for chart in shown] == ["timeline-title timeline-desc", "trials-title trials-desc"]
    described = " ".join(data for tag, data in page.texts if tag == "desc")
    assert "in backward, tensors hold 2.24 GiB" in described
    assert "1,537: out of memory in backward" in described
    assert "currentColor" in html(detailed_search())


def test_modules_fold_and_only_the_model_is_open() -> None:
    page = Page(html(short()))
    folds = [found for found in page.all("details") if "open" in found]
    assert len(folds) == 1
    assert len(page.all("details")) == 5  # the model, layer1, layer1.0, layer4, the config


def hostile() -> FindBatchResult:
    """Return a result whose every text of a stranger is hostile."""
    made = short().breakdown
    assert made is not None
    share = ModuleShare(path=HOSTILE.replace(".", ""), bytes=0, by_category={})
    return replace(
        MEMORY,
        run=replace(
            MEMORY.run,
            config_name=HOSTILE,
            config={"model": {HOSTILE: HOSTILE}},
            overrides=(f"model.name={HOSTILE}",),
            device=replace(GPU, name=HOSTILE, type=HOSTILE, limit_enforced_by=HOSTILE, other_processes=(HOSTILE,)),
            data=MEMORY.run.data
            and replace(
                MEMORY.run.data,
                name=HOSTILE,
                detail=HOSTILE,
                tensors=(TensorInfo(name=HOSTILE, shape=(2,), dtype=HOSTILE),),
            ),
            versions={HOSTILE: HOSTILE},
            remark=HOSTILE,
        ),
        trials=(ran(1), replace(failed(2), message=HOSTILE)),
        certificate=MEMORY.certificate and replace(MEMORY.certificate, message=HOSTILE),
        breakdown=replace(made, modules=(*made.modules, share)),
        notes=(HOSTILE,),
    )


def test_names_stay_names() -> None:
    text = html(hostile())
    page = Page(text)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert page.text.count(VISIBLE) >= 10
    assert "\x1b" not in text
    assert "\u202e" not in text


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def themes() -> list[dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", html(MEMORY), re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w{6})", theme)) for theme in (light, dark)]


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_is_readable_in_both_themes(theme: dict[str, str]) -> None:
    for paper in ("page", "panel"):
        for ink in ("text", "quiet"):
            assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)
    for shape in ("good", "bad", "mark"):
        assert contrast(theme[shape], theme["page"]) >= 3, shape


def test_every_category_but_free_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(Category) - {Category.FREE}
    assert len(set(COLOURS.values())) == len(COLOURS)
    text = html(MEMORY)
    assert all(f".{category.value} {{ background: {colour};" in text for category, colour in COLOURS.items())


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("precious")
    for attempt in (lambda: check_report(path), lambda: save_report(document_of(MEMORY), path)):
        with pytest.raises(ConfigError, match="already exists"):
            attempt()
    assert path.read_text() == "precious"
    save_report(document_of(MEMORY), path, force=True)
    assert path.read_text(encoding="utf-8") == html(MEMORY)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["report.md", "report", "report.json"])
def test_other_kinds_of_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--report .*{name}: a report is an HTML page") as caught:
        check_report(tmp_path / name)
    assert "--format markdown" in caught.value.hint
