"""The answer of `vram advise`: as text, as Markdown, as a page, as JSON and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, LearningRateSuggestion, OptimizationResult
from vram_cli.report.advice import advice_text, card_rows, lever_rows, summary, useless
from vram_cli.report.console import print_answer
from vram_cli.report.html import to_html
from vram_cli.report.markdown import advice_to_markdown
from vram_cli.report.next_step import to_use
from vram_cli.report.saved import from_json, load, load_any, save, to_json
from vram_cli.units import MIB

from .advices import ADVICES, AT_ONCE, BEST, CARD, FULL, HALF, INTERRUPTED, NOTHING_AS_IT_IS, PREDICTED, REAL
from .drawing import draw
from .page import Page
from .test_html import HOSTILE, VISIBLE
from .test_markdown import page
from .test_saved import RUNS, breakdowns, records

WIDTHS = (60, 80, 120)
COUNTS = st.integers(0, 2**50)
CHANGE = records(OptimizationResult, pieces=st.integers(1, 100), max_batch_size=st.none() | COUNTS)
SPLIT = records(AccumulationPlan, wanted=COUNTS, micro_batch_size=st.none() | COUNTS, accumulate=COUNTS)
ADVICE = records(
    Advice,
    command=st.just("advise"),
    run=RUNS,
    max_batch_size=st.none() | COUNTS,
    at_batch_size=COUNTS,
    breakdown=st.none() | breakdowns(),
    levers=st.lists(CHANGE, max_size=4).map(tuple),
    best=st.none() | CHANGE,
    fit=st.none() | SPLIT,
    effective=st.none() | SPLIT,
    rate=st.none() | records(LearningRateSuggestion),
    cards=st.lists(records(GpuEstimate, best=st.none() | CHANGE), max_size=2).map(tuple),
    schema_version=st.just(1),
)


def finite(advice: Advice) -> bool:
    return "NaN" not in (text := to_json(advice)) and "Infinity" not in text


# Text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ADVICES)
def test_text_off_a_terminal(
    name: str,
    width: int,
    golden: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_answer(advice_text(ADVICES[name]))
    printed = capsys.readouterr().out
    assert printed == golden(f"advice-{name}-{width}", printed)
    assert max(len(line) for line in printed.splitlines()) <= width
    assert all(line == line.rstrip() for line in printed.splitlines())


def test_without_box_characters() -> None:
    assert draw(advice_text(PREDICTED), 80, encoding="ascii").isascii()


def long(advice: Advice) -> Advice:
    """Return the advice with figures and names that take more room than any that a reader meets."""
    name = "train.freeze=[" + "features.very_long.names.of.layers.*," * 4 + "]"
    change = replace(
        HALF, name=name, max_batch_size=12_345_678, saved_bytes=-1023 * MIB, pieces=16, price=name, seconds=12.34
    )
    return replace(
        advice,
        max_batch_size=11_234_567,
        at_batch_size=10_987_654,
        levers=(change, replace(change, helps=False, why=name)),
        best=change,
        cards=(replace(PREDICTED.cards[0], max_batch_size=11_234_567, best=change),),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_ever_cut(width: int) -> None:
    text = draw(advice_text(long(PREDICTED)), width)
    shown = ["16 x 12,345,678", "x17.58", "11,234,567", "15.0 GiB"]
    shown += ["-1023 MiB", "saves at 10,987,654"] if width >= 80 else []
    for figure in shown:
        assert figure in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@given(ADVICE)
@settings(max_examples=40, deadline=None)
def test_any_advice_can_be_drawn(advice: Advice) -> None:
    for width in (60, 100):
        text = draw(advice_text(advice), width)
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "Next: " in text


# Words


def test_gains_are_of_samples_to_a_step_and_the_strongest_comes_first() -> None:
    rows = lever_rows(PREDICTED)
    assert [(name, largest, gain) for name, largest, gain, *_ in rows] == [
        ("checkpoint every block", "1,548", "x6.19"),
        ("accumulate 2 batches", "2 x 248", "x1.98"),
        ("autocast to bfloat16", "495", "x1.98"),
        ("expandable segments", "281", "x1.12"),
    ]


@pytest.mark.parametrize(
    ("lever", "costs"),
    [
        (FULL, "+33 % operations; computes activations twice"),
        (replace(FULL, seconds=1.205), "+20 % step time, measured; computes activations twice"),
        (replace(FULL, seconds=0.8, compute=None), "-20 % step time, measured; computes activations twice"),
        (replace(FULL, seconds=1.004, compute=None), "computes activations twice"),
        (replace(FULL, compute=1.0, price=""), "nothing known"),
    ],
)
def test_costs_are_measured_before_they_are_counted(lever: OptimizationResult, costs: str) -> None:
    assert lever_rows(replace(PREDICTED, levers=(lever,)))[0][-1] == costs


def test_savings_keep_their_sign_and_say_their_row() -> None:
    saves = {name: (amount, row) for name, _, _, amount, row, _ in lever_rows(PREDICTED)}
    assert saves["checkpoint every block"] == ("11.6 GiB", "activations")
    assert saves["accumulate 2 batches"] == ("-98.0 MiB", "gradients")
    assert {row[3] for row in lever_rows(REAL)} == {"-"}


def test_what_does_not_help_says_how_far_it_came_and_why() -> None:
    assert useless(PREDICTED) == [
        ("fused optimizer", "250: saves 16.0 MiB at 235, which makes no room for 1 % more samples"),
        ("8-bit AdamW", "optimizer.name: adamw8bit needs bitsandbytes: No module named 'bitsandbytes'"),
    ]


def test_predictions_are_called_predicted_and_measurements_measured() -> None:
    assert summary(PREDICTED)[0][1].endswith("23.5 GiB (predicted)")
    assert summary(REAL)[0][1].endswith("(measured)")


def test_an_interrupted_advice_says_what_it_is_of() -> None:
    lines = dict(summary(INTERRUPTED))
    assert lines["Best so far:"] == "281 (x1.12) with expandable segments"
    assert lines["Interrupted:"] == "2 changes had been tried; what follows is known"
    assert dict(summary(AT_ONCE))["As it is:"].startswith("at least 128 on")
    assert dict(summary(replace(AT_ONCE, max_batch_size=None)))["As it is:"].startswith("nothing known yet on")


def test_a_card_that_cannot_be_predicted_says_why() -> None:
    assert card_rows(PREDICTED.cards) == [
        ("t4", "15.0 GiB", "146", "167", "autocast to bfloat16"),
        ("l4", "22.1 GiB", "236", "-", "nothing helps"),
        ("h100", "85.0 GiB", "-", "-", "refused: why"),
    ]


# The next command


def test_the_next_command_uses_what_was_asked_or_else_the_best() -> None:
    asked = to_use(PREDICTED).words
    assert asked[:4] == ("vram", "breakdown", "--config", "resnet50_imagenet.yaml")
    assert asked[-6:] == (
        "--batch-size", "512", "--set", "device.expandable_segments=true", "--set", "precision=amp-bf16",
    )  # fmt: skip
    assert "optimizer.nesterov=true" in asked
    pieces = to_use(replace(PREDICTED, fit=None)).words
    assert pieces[-4:] == ("--batch-size", "1", "--set", "train.gradient_accumulation_steps=1021")
    best = to_use(replace(PREDICTED, fit=None, effective=None)).words
    assert best[1] == "find-batch"
    assert [word for word in best if word in BEST.sets] == list(BEST.sets)
    assert to_use(replace(PREDICTED, fit=None, effective=None, best=None)).words[1] == "find-batch"
    nothing = to_use(replace(NOTHING_AS_IT_IS, best=None))
    assert nothing.words[-2:] == ("--set", "precision=bf16")


# Markdown


def test_markdown_as_it_looks(golden: Callable[[str, str], str]) -> None:
    drawn = advice_to_markdown(PREDICTED)
    assert drawn == golden("report-advice.md", drawn)


@pytest.mark.parametrize("name", ADVICES)
def test_markdown_has_the_words_of_the_terminal(name: str) -> None:
    advice = ADVICES[name]
    text = page(advice_to_markdown(advice)).text
    for label, words in summary(advice):
        assert f"{label} {words}" in text
    for lever, why in useless(advice):
        assert f"{lever}: {why}" in text
    for note in (advice.run.remark, advice.run.device.accuracy, *advice.notes):
        assert note in text


@given(ADVICE)
@settings(max_examples=30, deadline=None)
def test_any_advice_becomes_markdown_whose_html_is_closed(advice: Advice) -> None:
    assert page(advice_to_markdown(advice)).all("details")


# The page


def test_the_page_as_it_looks(golden: Callable[[str, str], str]) -> None:
    drawn = to_html(PREDICTED)
    assert drawn == golden("report-advice.html", drawn)


@pytest.mark.parametrize("name", ADVICES)
def test_the_page_has_the_words_of_the_terminal_and_asks_nobody(name: str) -> None:
    advice = ADVICES[name]
    text = to_html(advice)
    shown = Page(text).text
    for label, words in summary(advice):
        assert f"{label} {words}" in shown
    for cells in (*lever_rows(advice), *useless(advice), *card_rows(advice.cards)):
        assert " ".join(cells) in shown
    for package, version in advice.run.versions.items():
        assert f"{package} {version}" in shown
    assert advice.run.device.accuracy in shown
    assert "//" not in re.sub(r"/\*.*?\*/", "", text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in Page(text).elements}


@given(ADVICE)
@settings(max_examples=30, deadline=None)
def test_any_advice_becomes_a_well_formed_page(advice: Advice) -> None:
    assert len(Page(to_html(advice)).all("h1")) == 1


# Hostile words


def hostile() -> Advice:
    """Return an advice whose every text of a stranger is hostile."""
    helping, other = replace(HALF, name=HOSTILE, sets=(HOSTILE,), price=HOSTILE), replace(HALF, helps=False)
    return replace(
        PREDICTED,
        run=replace(
            PREDICTED.run,
            config_name=HOSTILE,
            config={"model": {HOSTILE: HOSTILE}},
            overrides=(f"model.name={HOSTILE}",),
            device=replace(CARD, name=HOSTILE, type=HOSTILE, accuracy=HOSTILE),
            versions={HOSTILE: HOSTILE},
            remark=HOSTILE,
        ),
        levers=(helping, replace(other, name=HOSTILE, why=HOSTILE)),
        best=helping,
        fit=AccumulationPlan(wanted=1, micro_batch_size=1, sets=(HOSTILE,), note=HOSTILE),
        cards=(
            GpuEstimate(name=HOSTILE, capacity_bytes=1, max_batch_size=1, best=helping),
            GpuEstimate(name=HOSTILE, capacity_bytes=1, max_batch_size=None, best=None, why=HOSTILE),
        ),
        notes=(HOSTILE,),
    )


def test_hostile_names_stay_names() -> None:
    text = draw(advice_text(hostile()), 120)
    assert "\x1b" not in text
    assert "\u202e" not in text
    markdown = advice_to_markdown(hostile())
    assert {tag for tag, _ in page(markdown).elements} <= {
        "h3", "p", "strong", "br", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
        "ul", "li", "pre", "code",
    }  # fmt: skip
    assert "\x1b" not in markdown
    html = to_html(hostile())
    shown = Page(html)
    assert not {"script", "img"} & {tag for tag, _ in shown.elements}
    assert shown.text.count(VISIBLE) >= 10
    assert "\x1b" not in html


# JSON and back


@given(ADVICE.filter(finite))
@settings(max_examples=30, deadline=None)
def test_any_advice_comes_back_as_it_was(advice: Advice) -> None:
    text = to_json(advice)
    assert text.isascii()
    assert from_json(text, "here") == advice


def test_the_keys_that_readers_of_the_json_rely_on() -> None:
    document = json.loads(to_json(PREDICTED))
    assert (document["schema_version"], document["command"]) == (1, "advise")
    assert (document["max_batch_size"], document["at_batch_size"]) == (250, 235)
    change = document["levers"][3]
    assert {key: change[key] for key in ("name", "sets", "max_batch_size", "saved_bytes", "saved_from", "helps")} == {
        "name": "checkpoint every block",
        "sets": ["train.activation_checkpointing=full"],
        "max_batch_size": 1548,
        "saved_bytes": 11_878 * MIB,
        "saved_from": "activations",
        "helps": True,
    }
    assert document["levers"][4]["pieces"] == 2
    assert document["best"]["max_batch_size"] == 2171
    assert document["fit"]["sets"] == ["device.expandable_segments=true", "precision=amp-bf16"]
    assert (document["effective"]["micro_batch_size"], document["effective"]["accumulate"]) == (1, 1021)
    assert document["rate"]["rate"] == 0.3988
    assert document["cards"][0]["best"]["max_batch_size"] == 167
    assert document["breakdown"]["rows"][0] == {"category": "parameters", "bytes": 102_441_032}
    assert document["interrupted"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levers": [{"name": "x"}]}, r"levers\[0\].sets is missing"),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"schema_version": 2}, "schema_version is 2"),
        ({"command": "find-batch"}, "is missing"),
    ],
)
def test_what_is_no_advice_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(to_json(PREDICTED)) | change
    with pytest.raises(ConfigError, match=message):
        from_json(json.dumps(document), "here")


def test_a_saved_advice_is_drawn_again_and_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "advice.json"
    save(PREDICTED, path)
    assert load_any(path) == PREDICTED
    with pytest.raises(ConfigError, match="is what `vram advise` saved"):
        load(path)
    with pytest.raises(ConfigError, match="exists already"):
        save(PREDICTED, path)
