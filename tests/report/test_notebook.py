"""Answers in a notebook: words and tables that are well-formed wherever a cell puts them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vram_cli.cli.output import document_of

from .advices import ADVICES
from .examples import ALL, MEMORY, detailed
from .page import Page
from .test_html import HOSTILE, VISIBLE
from .verdicts import verdicts

ANSWERS = {**ALL, **ADVICES, **verdicts(), "detailed": detailed()}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_a_fragment_with_its_words_and_nothing_that_runs(name: str) -> None:
    record = ANSWERS[name]
    page = Page(record._repr_html_())
    document = document_of(record)
    for label, words in (document.heading, *document.summary):
        assert f"{label} {' '.join(words.split())}" in page.text
    assert not {"script", "style", "link", "img", "svg", "html", "pre"} & {tag for tag, _ in page.elements}
    assert "vram find-batch" not in page.text


def test_the_breakdown_is_a_table_that_adds_up() -> None:
    page = Page(MEMORY._repr_html_())
    assert MEMORY.breakdown is not None
    cells = [text for tag, text in page.texts if tag == "td"]
    sizes = [int(text.replace(",", "")) for text in cells[2::4]]
    assert sizes == [*(row.bytes for row in MEMORY.breakdown.rows), MEMORY.breakdown.total_bytes]


def test_names_stay_names() -> None:
    record = replace(MEMORY, run=replace(MEMORY.run, remark=HOSTILE), notes=(HOSTILE,))
    page = Page(record._repr_html_())
    assert page.text.count(VISIBLE) == 2


def test_an_answer_for_a_function_names_no_command() -> None:
    live = replace(MEMORY, run=replace(MEMORY.run, config={"training": "make_training (cell, line 1)"}))
    assert "Command" in {type(block).__name__ for block in document_of(MEMORY).blocks}
    assert "Command" not in {type(block).__name__ for block in document_of(live).blocks}
