"""The answer of `vram check` as text, Markdown, JSON and annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.records import CheckResult
from vram_cli.report.annotations import command, failure, workflow_commands
from vram_cli.report.formats.json import to_json
from vram_cli.report.words import spelled

from .drawing import WIDTHS, assert_within, flat, html, markdown, text
from .page import Page
from .verdicts import verdicts

ALL = verdicts()


@pytest.mark.parametrize("name", ALL)
def test_text(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = text(ALL[name])
    assert drawn == golden(f"verdict-{name}-80", drawn)
    for width in WIDTHS:
        assert_within(width, text(ALL[name], width))


@pytest.mark.parametrize("name", ["grew", "misfit"])
def test_markdown(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = markdown(ALL[name])
    assert drawn == golden(f"verdict-{name}.md", drawn)


@pytest.mark.parametrize("verdict", ALL.values(), ids=ALL)
def test_json_says_what_the_text_says(verdict: CheckResult) -> None:
    document = json.loads(to_json(verdict))
    assert document["passed"] is verdict.passed
    assert document["command"] == "check"
    assert [found["excess_bytes"] for found in document["findings"]] == [
        found["bytes"] - found["allowed_bytes"] for found in document["findings"]
    ]
    drawn = flat(verdict, 4000)
    assert all(" ".join(found["message"].split()) in drawn for found in document["findings"])
    assert len(document["findings"]) == len(verdict.findings)


def test_annotations_are_an_error_per_finding_and_a_notice_per_remark() -> None:
    lines = workflow_commands(ALL["grew"]).splitlines()
    assert [line.split()[0] for line in lines] == ["::error", "::notice"]
    assert "activations +300 MiB; in layer1.1 (new) +302 MiB" in lines[0]
    assert "model.hidden" in lines[1]
    assert workflow_commands(ALL["passes"]) == ""


def test_failed_check_is_an_annotation_of_one_line() -> None:
    line = failure(ConfigError("train.yaml:3: 100% wrong", "fix it"))
    assert line == "::error title=vram check could not run::train.yaml:3: 100%25 wrong%0Afix it\n"


@pytest.mark.parametrize("verdict", ALL.values(), ids=ALL)
def test_page_has_the_findings(verdict: CheckResult) -> None:
    page = Page(html(verdict))
    assert all(found["message"] in page.text for found in json.loads(to_json(verdict))["findings"])
    assert bool(page.all("h1", **{"class": "fail"})) is not verdict.passed


TEXTS = st.text(st.sampled_from("a:%,\r\n \u2028é") | st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
def test_nothing_in_an_annotation_ends_it(title: str, message: str) -> None:
    line = command("error", title, message)
    assert not re.search(r"[\r\n]", line)
    start, properties, data = re.fullmatch(r"(::error) title=([^:,]*)::(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    assert start == "::error"
    # As the runner reads it, the escaped percent sign last.
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        properties = properties.replace(code, char)
        data = data if char in ":," else data.replace(code, char)
    assert (properties, data) == (spelled(title), spelled(message))
