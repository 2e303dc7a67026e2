"""Markdown for pull requests: the words and figures of the terminal, and no markup but vram's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # rich needs it

from vram_cli.cli.output import document_of
from vram_cli.errors import ConfigError
from vram_cli.records import BreakdownResult, FindBatchResult
from vram_cli.report import document as doc
from vram_cli.report.formats.markdown import escaped, to_markdown

from .drawing import markdown
from .examples import ALL, BREAKDOWN, GPU, MEMORY, detailed, detailed_search
from .page import Page
from .test_html import HOSTILE, hostile
from .test_saved import RESULTS

SPACE = "\u200b"
MARKDOWN_TAGS = {
    "h3", "p", "strong", "br", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul",
    "li", "pre", "code",
}  # fmt: skip
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def page(markdown: str) -> Page:
    """Return what a reader sees of it; a piece of HTML that is not closed is an error."""
    return Page(RENDERER.render(markdown))


def seen(text: str) -> str:
    return " ".join(text.replace(SPACE, "").split())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("find-batch", markdown(MEMORY)),
        ("breakdown", markdown(detailed(), depth=2, timeline=True)),
        ("does-not-fit", markdown(ALL["find-batch-does-not-fit"])),
    ],
)
def test_as_it_looks(name: str, text: str, golden: Callable[[str, str], str]) -> None:
    assert text == golden(f"report-{name}.md", text)


@pytest.mark.parametrize("name", ALL)
def test_it_has_the_words_of_the_terminal(name: str) -> None:
    result = ALL[name]
    document = document_of(result)
    text = page(to_markdown(document)).text
    pairs = next(
        part.blocks[0] for part in document.blocks if isinstance(part, doc.Details) and part.title[:6] == "How it"
    )
    assert isinstance(pairs, doc.Pairs)
    for label, words in (document.heading, *document.summary, *pairs.lines):
        assert label == "proof" or f"{label} {words}".replace("\n", "; ") in text


@pytest.mark.parametrize("result", [MEMORY, BREAKDOWN])
def test_rows_of_the_table_add_up_to_its_total(result: FindBatchResult | BreakdownResult) -> None:
    assert result.breakdown is not None
    rows = re.findall(r"^\|.*\| \**([\d,]+)\** \| \**([\d.]+) %\** \|$", markdown(result), re.MULTILINE)
    *parts, total = [(int(size.replace(",", "")), float(share)) for size, share in rows]
    assert len(parts) == 10
    assert sum(size for size, _ in parts) == total[0] == result.breakdown.total_bytes
    assert sum(share for _, share in parts) == pytest.approx(total[1], abs=0.5)


def test_details_are_folded() -> None:
    made = page(markdown(detailed_search(), depth=3, timeline=True))
    titles = [data for tag, data in made.texts if tag == "summary"]
    assert titles == [
        "Peak memory by module at batch size 128 (measured)",
        "Memory over one step at batch size 128 (measured)",
        "Peak memory of each trial (measured)",
        "How it was measured",
        "To reproduce this answer",
    ]
    code = [data for tag, data in made.texts if tag == "code"]
    assert code[0].startswith("module")
    assert code[1].lstrip().startswith("2.24 GiB┤")
    assert code[2] == "vram find-batch --config resnet18_cifar10.yaml\n"


def test_what_was_not_measured_cannot_be_shown() -> None:
    for wish in ({"depth": 2}, {"timeline": True}):
        with pytest.raises(ConfigError, match="no modules and no timeline"):
            markdown(BREAKDOWN, **wish)


def test_predictions_are_called_predictions() -> None:
    device = replace(GPU, kind="simulated", name="RTX 4090", accuracy="off by 2.5 %", limit_enforced_by="")
    text = page(markdown(replace(MEMORY, run=replace(MEMORY.run, device=device, remark="no GPU here")))).text
    assert "Note: no GPU here" in text
    assert "accuracy off by 2.5 %" in text
    assert "measured" not in text


@given(st.text(max_size=60) | st.text("`*_[]()<>#|~!\\&$@-+.1x \n\x1b", max_size=30))
@settings(max_examples=300, deadline=None)
def test_text_is_shown_as_it_is(text: str) -> None:
    printable = "".join(char for char in text if char.isprintable())
    made = page(f"**Note:** {escaped(printable)}")
    assert {tag for tag, _ in made.elements} == {"p", "strong"}
    assert seen(made.text) == seen(f"Note: {printable}")


@given(st.text("`*_[]()<>#|~!\\&$@-+.1x \n", max_size=30))
@settings(max_examples=100, deadline=None)
def test_text_stays_in_its_cell(text: str) -> None:
    made = page(f"| a | b |\n| --- | --- |\n| {escaped(text)} | other |")
    assert len(made.all("td")) == 2
    assert seen(made.text) == seen(f"a b {text} other")


def test_no_one_is_notified_by_a_name_in_it() -> None:
    text = markdown(replace(hostile(), run=replace(hostile().run, config_name="@everyone.yaml"), notes=("@torvalds",)))
    assert not re.search(r"@[A-Za-z0-9]", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_names_stay_names() -> None:
    name = f"`````` \n\n|{HOSTILE}| [x](https://a.b)"
    device = replace(GPU, name=name, type=name, other_processes=(name, name))
    result = replace(
        hostile(),
        run=replace(hostile().run, device=device, config_name=name, remark=name),
        notes=(name,),
    )
    made = page(markdown(result, depth=9, timeline=True))
    assert {tag for tag, _ in made.elements} <= MARKDOWN_TAGS
    assert not [key for _, found in made.elements for key in found if key not in ("class", "style")]
    assert "\x1b" not in markdown(result)


@given(RESULTS)
@settings(max_examples=30, deadline=None)
def test_any_result_becomes_markdown_whose_html_is_closed(result: FindBatchResult | BreakdownResult) -> None:
    assert page(markdown(result)).all("details")
