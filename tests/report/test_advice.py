"""The answer of `vram advise`: as text, as Markdown, as a page, as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, LearningRateSuggestion, OptimizationResult, RankPlan
from vram_cli.report import document as doc
from vram_cli.report.answers.advice import advice_document
from vram_cli.report.baseline import load_baseline
from vram_cli.report.formats.json import to_json
from vram_cli.report.next_step import to_use
from vram_cli.report.saved import from_json, load, save
from vram_cli.units import MIB

from .advices import (
    ADVICES,
    BEST,
    DEVICE,
    FIT_OF_RANKS,
    FITS_WITH_A_CHANGE,
    FULL,
    HALF,
    INTERRUPTED,
    INTERRUPTED_FIRST,
    ONLY_WITH_RANKS,
    PREDICTED,
    RANKS,
    REAL,
)
from .drawing import WIDTHS, assert_within, body, html, markdown, text
from .page import Page, assert_page_needs_nothing
from .test_html import HOSTILE, VISIBLE
from .test_markdown import MARKDOWN_TAGS, page
from .test_saved import RUNS, breakdowns, records

HELPING = "Changes that help, each on its own"
COUNTS = st.integers(0, 2**50)
CHANGE = records(
    OptimizationResult,
    micro_batches=st.integers(1, 100),
    rank_ratio=st.floats(0.01, 100),
    max_batch_size=st.none() | COUNTS,
)
SPLIT = records(
    AccumulationPlan, batch_size=COUNTS, micro_batch_size=st.none() | COUNTS, gradient_accumulation_steps=COUNTS
)
ADVICE = records(
    Advice,
    run=RUNS,
    max_batch_size=st.none() | COUNTS,
    at_batch_size=COUNTS,
    breakdown=st.none() | breakdowns(),
    optimizations=st.lists(CHANGE, max_size=4).map(tuple),
    best=st.none() | CHANGE,
    fit_batch=st.none() | SPLIT,
    fewest_gpus=st.lists(records(RankPlan), max_size=2).map(tuple),
    effective_batch=st.none() | SPLIT,
    learning_rate=st.none() | records(LearningRateSuggestion),
    gpus=st.lists(records(GpuEstimate, best=st.none() | CHANGE), max_size=2).map(tuple),
    schema_version=st.just(1),
)


def finite(advice: Advice) -> bool:
    written = to_json(advice)
    return "NaN" not in written and "Infinity" not in written


# Text


@pytest.mark.parametrize("name", ADVICES)
def test_text(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = text(ADVICES[name])
    assert drawn == golden(f"advice-{name}-80", drawn)
    for width in WIDTHS:
        assert_within(width, text(ADVICES[name], width))


def test_without_box_characters() -> None:
    assert text(PREDICTED, encoding="ascii").isascii()


def rows(advice: Advice, title: str) -> list[tuple[doc.Cell, ...]]:
    """Return the cells of the table with that title."""
    return [row.cells for table in tables(advice_document(advice).blocks) if table[0] == title for row in table[1].rows]


def tables(blocks: tuple[doc.Block, ...], title: str = "") -> Iterator[tuple[str, doc.Table]]:
    for block in blocks:
        if isinstance(block, doc.Details):
            yield from tables(block.blocks, block.title)
        elif isinstance(block, doc.Table):
            yield block.title or title, block


def summary(advice: Advice) -> dict[str, str]:
    document = advice_document(advice)
    return dict((document.heading, *document.summary))


def long(advice: Advice) -> Advice:
    """Return the advice with figures and names that take more room than any that a reader meets."""
    name = "train.freeze=[" + "features.very_long.names.of.layers.*," * 4 + "]"
    change = replace(
        HALF,
        name=name,
        max_batch_size=12_345_678,
        saved_bytes=-1023 * MIB,
        micro_batches=16,
        cost=name,
        step_time_ratio=12.34,
    )
    return replace(
        advice,
        max_batch_size=11_234_567,
        at_batch_size=10_987_654,
        optimizations=(change, replace(change, helps=False, reason=name)),
        best=change,
        gpus=(replace(PREDICTED.gpus[0], max_batch_size=11_234_567, best=change),),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_ever_cut(width: int) -> None:
    drawn = text(long(PREDICTED), width)
    shown = ["16 x 12,345,678", "x17.58", "11,234,567", "15.0 GiB"]
    shown += ["-1023 MiB", "saves at 10,987,654"] if width >= 80 else []
    for figure in shown:
        assert figure in drawn
    assert "…" not in drawn
    assert_within(width, drawn)


@given(ADVICE)
@settings(max_examples=40, deadline=None)
def test_any_advice_can_be_drawn(advice: Advice) -> None:
    for width in (60, 100):
        drawn = text(advice, width)
        assert all(character.isprintable() or character == "\n" for character in drawn)
        assert "Next: " in drawn


# Words


def test_gains_count_accumulated_samples_and_the_strongest_comes_first() -> None:
    assert [cells[:3] for cells in rows(PREDICTED, HELPING)] == [
        ("checkpoint every block", "1,548", "x6.19"),
        ("accumulate 2 batches", "2 x 248", "x1.98"),
        ("autocast to bfloat16", "495", "x1.98"),
        ("expandable segments", "281", "x1.12"),
    ]


@pytest.mark.parametrize(
    ("result", "costs"),
    [
        (FULL, "+33 % operations; recomputes activations"),
        (replace(FULL, step_time_ratio=1.205), "+20 % step time, measured; recomputes activations"),
        (replace(FULL, step_time_ratio=0.8, flops_ratio=None), "-20 % step time, measured; recomputes activations"),
        (replace(FULL, step_time_ratio=1.004, flops_ratio=None), "recomputes activations"),
        (replace(FULL, flops_ratio=1.0, cost=""), "none known"),
    ],
)
def test_costs_are_measured_before_they_are_counted(result: OptimizationResult, costs: str) -> None:
    assert rows(replace(PREDICTED, optimizations=(result,)), HELPING)[0][-1] == costs


def test_savings_keep_their_sign_and_say_their_row() -> None:
    saves = {name: (amount, row) for name, _, _, amount, row, _ in rows(PREDICTED, HELPING)}
    assert saves["checkpoint every block"] == ("11.6 GiB", "activations")
    assert saves["accumulate 2 batches"] == ("-98.0 MiB", "gradients")
    assert {len(cells) for cells in rows(REAL, HELPING)} == {4}


def test_changes_that_do_not_help_say_why() -> None:
    assert rows(PREDICTED, "Changes that do not help") == [
        ("fused optimizer", "250: saves 16.0 MiB at 235, not enough for 1 % more samples"),
        ("8-bit AdamW", "optimizer.name: adamw8bit needs bitsandbytes: No module named 'bitsandbytes'"),
    ]


def test_predictions_are_called_predicted_and_measurements_measured() -> None:
    assert summary(PREDICTED)["Without changes:"].endswith("23.5 GiB (predicted)")
    assert summary(REAL)["Without changes:"].endswith("(measured)")


def test_interrupted_advice_says_how_far_it_came() -> None:
    lines = summary(INTERRUPTED)
    assert lines["Best so far:"] == "281 (x1.12) with expandable segments"
    assert lines["Interrupted:"] == "after 2 changes; the rest was not tried"
    assert summary(INTERRUPTED_FIRST)["Without changes:"].startswith("at least 128 on")
    assert summary(replace(INTERRUPTED_FIRST, max_batch_size=None))["Without changes:"].startswith("not known yet on")


def test_plan_in_evaluation() -> None:
    run = replace(PREDICTED.run, config={**PREDICTED.run.config, "mode": "eval"})
    assert "To evaluate with 512:" in summary(replace(PREDICTED, run=run))


def test_gpu_that_cannot_be_predicted_says_why() -> None:
    assert rows(PREDICTED, "On other GPUs (predicted)") == [
        ("t4", "15.0 GiB", "146", "167", "autocast to bfloat16"),
        ("l4", "22.1 GiB", "236", "-", "nothing helps"),
        ("h100", "85.0 GiB", "-", "-", "not in the catalogue"),
    ]


# The next command


def test_next_command_uses_the_plan_or_else_the_best() -> None:
    words = to_use(PREDICTED).words
    assert words[:4] == ("vram", "breakdown", "--config", "resnet50_imagenet.yaml")
    assert words[-6:] == (
        "--batch-size", "512", "--set", "device.expandable_segments=true", "--set", "precision=amp-bf16",
    )  # fmt: skip
    assert "optimizer.nesterov=true" in words
    accumulated = to_use(replace(PREDICTED, fit_batch=None)).words
    assert accumulated[-4:] == ("--batch-size", "1", "--set", "train.gradient_accumulation_steps=1021")
    best = to_use(replace(PREDICTED, fit_batch=None, effective_batch=None)).words
    assert best[1] == "find-batch"
    assert [word for word in best if word in BEST.overrides] == list(BEST.overrides)
    assert to_use(replace(PREDICTED, fit_batch=None, effective_batch=None, best=None)).words[1] == "find-batch"
    nothing = to_use(replace(FITS_WITH_A_CHANGE, best=None))
    assert nothing.words[-2:] == ("--set", "precision=bf16")


def test_next_command_trains_with_more_gpus_if_nothing_else_fits() -> None:
    words = to_use(ONLY_WITH_RANKS).words
    assert words[-6:] == (
        "--batch-size", "32", "--set", "parallel.strategy=fsdp2", "--set", "parallel.ranks=16",
    )  # fmt: skip


def test_next_command_has_no_key_of_the_strategy_that_it_replaces() -> None:
    def command(*changes: str) -> str:
        overrides = ("parallel.ranks=4", "parallel.gradient_as_bucket_view=true")
        plan = replace(FIT_OF_RANKS, overrides=changes)
        return " ".join(to_use(replace(RANKS, run=replace(RANKS.run, overrides=overrides), fit_batch=plan)).words)

    assert "gradient_as_bucket_view" in command("precision=bf16")
    fsdp2 = command("parallel.strategy=fsdp2")
    assert "ranks" in fsdp2
    assert "gradient_as_bucket_view" not in fsdp2
    alone = command("parallel=null")
    assert "ranks" not in alone
    assert "gradient_as_bucket_view" not in alone
    assert command("parallel.ranks=16").count("ranks") == 1


def test_one_gpu_may_be_enough() -> None:
    plan = RankPlan(strategy=None, ranks=1, batch_size=232, overrides=("parallel=null",))
    assert summary(replace(RANKS, fewest_gpus=(plan,)))["Fewest GPUs:"] == "1 GPU, predicted (--set parallel=null)"


# Markdown


def test_markdown_as_it_looks(golden: Callable[[str, str], str]) -> None:
    drawn = markdown(PREDICTED)
    assert drawn == golden("report-advice.md", drawn)


@pytest.mark.parametrize("name", ADVICES)
def test_markdown_has_the_words_of_the_terminal(name: str) -> None:
    advice = ADVICES[name]
    shown = page(markdown(advice)).text
    for label, words in summary(advice).items():
        assert f"{label} {words}" in shown
    for note in (advice.run.remark, advice.run.device.accuracy, *advice.notes):
        assert note in shown


@given(ADVICE)
@settings(max_examples=30, deadline=None)
def test_any_advice_becomes_markdown_whose_html_is_closed(advice: Advice) -> None:
    assert page(markdown(advice)).all("details")


# The page


def test_the_page_as_it_looks(golden: Callable[[str, str], str]) -> None:
    drawn = body(html(PREDICTED))
    assert drawn == golden("report-advice.html", drawn)


@pytest.mark.parametrize("name", ADVICES)
def test_page_has_the_words_of_the_terminal(name: str) -> None:
    advice = ADVICES[name]
    shown = assert_page_needs_nothing(html(advice)).text
    for label, words in summary(advice).items():
        assert f"{label} {words}" in shown
    for title in (HELPING, "Changes that do not help", "On other GPUs (predicted)"):
        assert all(" ".join(map(str, cells)) in shown for cells in rows(advice, title))
    for package, version in advice.run.versions.items():
        assert f"{package} {version}" in shown
    assert advice.run.device.accuracy in shown


@given(ADVICE)
@settings(max_examples=30, deadline=None)
def test_any_advice_becomes_a_well_formed_page(advice: Advice) -> None:
    assert len(Page(html(advice)).all("h1")) == 1


# Hostile words


def hostile() -> Advice:
    """Return an advice with hostile text in every field that may hold the user's text."""
    helping, other = replace(HALF, name=HOSTILE, overrides=(HOSTILE,), cost=HOSTILE), replace(HALF, helps=False)
    return replace(
        PREDICTED,
        run=replace(
            PREDICTED.run,
            config_name=HOSTILE,
            config={"model": {HOSTILE: HOSTILE}},
            overrides=(f"model.name={HOSTILE}",),
            device=replace(DEVICE, name=HOSTILE, type=HOSTILE, accuracy=HOSTILE),
            versions={HOSTILE: HOSTILE},
            remark=HOSTILE,
        ),
        optimizations=(helping, replace(other, name=HOSTILE, reason=HOSTILE)),
        best=helping,
        fit_batch=AccumulationPlan(batch_size=1, micro_batch_size=1, overrides=(HOSTILE,), note=HOSTILE),
        gpus=(
            GpuEstimate(name=HOSTILE, capacity_bytes=1, max_batch_size=1, best=helping),
            GpuEstimate(name=HOSTILE, capacity_bytes=1, max_batch_size=None, best=None, reason=HOSTILE),
        ),
        notes=(HOSTILE,),
    )


def test_hostile_names_stay_names() -> None:
    shown = Page(html(hostile()))
    assert not {"script", "img"} & {tag for tag, _ in shown.elements}
    assert shown.text.count(VISIBLE) >= 10
    assert {tag for tag, _ in page(markdown(hostile())).elements} <= MARKDOWN_TAGS
    for drawn in (text(hostile(), 120), markdown(hostile()), html(hostile())):
        assert "\x1b" not in drawn
        assert "\u202e" not in drawn


# JSON and back


@given(ADVICE.filter(finite))
@settings(max_examples=30, deadline=None)
def test_any_advice_comes_back_as_it_was(advice: Advice) -> None:
    written = to_json(advice)
    assert written.isascii()
    assert from_json(written, "here") == advice


def test_the_keys_that_readers_of_the_json_rely_on() -> None:
    document = json.loads(to_json(PREDICTED))
    assert (document["schema_version"], document["command"]) == (1, "advise")
    assert (document["max_batch_size"], document["at_batch_size"]) == (250, 235)
    change = document["optimizations"][3]
    assert {
        key: change[key] for key in ("name", "overrides", "max_batch_size", "saved_bytes", "saved_from", "helps")
    } == {
        "name": "checkpoint every block",
        "overrides": ["train.activation_checkpointing=full"],
        "max_batch_size": 1548,
        "saved_bytes": 11_878 * MIB,
        "saved_from": "activations",
        "helps": True,
    }
    assert document["optimizations"][4]["micro_batches"] == 2
    assert document["best"]["max_batch_size"] == 2171
    assert document["fit_batch"]["overrides"] == ["device.expandable_segments=true", "precision=amp-bf16"]
    effective_batch = document["effective_batch"]
    assert (effective_batch["micro_batch_size"], effective_batch["gradient_accumulation_steps"]) == (1, 1021)
    assert document["learning_rate"]["learning_rate"] == 0.3988
    assert document["gpus"][0]["best"]["max_batch_size"] == 167
    assert document["breakdown"]["rows"][0] == {"category": "parameters", "bytes": 102_441_032}
    assert document["interrupted"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizations": [{"name": "x"}]}, r"optimizations\[0\].overrides is missing"),
        ({"max_batch_size": "many"}, "max_batch_size"),
        ({"schema_version": 2}, "schema_version is 2"),
        ({"command": "find-batch"}, "is missing|limited_by"),
    ],
)
def test_what_is_no_advice_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(to_json(PREDICTED)) | change
    with pytest.raises(ConfigError, match=message):
        from_json(json.dumps(document), "here")


def test_a_saved_advice_is_drawn_again_and_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "advice.json"
    save(PREDICTED, path)
    assert load(path) == PREDICTED
    with pytest.raises(ConfigError, match="saved by `vram advise`"):
        load_baseline(path)
    with pytest.raises(ConfigError, match="already exists"):
        save(PREDICTED, path)
