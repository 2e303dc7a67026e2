"""How a verdict of the gate looks: as text, Markdown, JSON and annotations."""

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
from vram_cli.report.markdown import verdict_to_markdown
from vram_cli.report.verdict import verdict_as_json, verdict_text

from .drawing import draw
from .verdicts import verdicts

ALL = verdicts()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ALL)
def test_text(name: str, width: int, golden: Callable[[str, str], str]) -> None:
    printed = draw(verdict_text(ALL[name]), width)
    assert printed == golden(f"verdict-{name}-{width}", printed)
    assert max(len(line) for line in printed.splitlines()) <= width


@pytest.mark.parametrize("name", ["grew", "misfit"])
def test_markdown(name: str, golden: Callable[[str, str], str]) -> None:
    drawn = verdict_to_markdown(ALL[name])
    assert drawn == golden(f"verdict-{name}.md", drawn)


@pytest.mark.parametrize("verdict", ALL.values(), ids=ALL)
def test_json_says_what_the_text_says(verdict: CheckResult) -> None:
    document = json.loads(verdict_as_json(verdict))
    assert document["passed"] is verdict.passed
    assert document["command"] == "check"
    assert [found["excess_bytes"] for found in document["findings"]] == [
        found["bytes"] - found["allowed_bytes"] for found in document["findings"]
    ]
    text = " ".join(draw(verdict_text(verdict), 4000).split())
    assert all(" ".join(found["message"].split()) in text for found in document["findings"])
    assert len(document["findings"]) == len(verdict.findings)


def test_annotations_are_an_error_for_each_finding_and_a_notice_for_each_remark() -> None:
    lines = workflow_commands(ALL["grew"]).splitlines()
    assert [line.split()[0] for line in lines] == ["::error", "::notice"]
    assert "activations +300 MiB; in layer1.1 (new) +302 MiB" in lines[0]
    assert "model.hidden" in lines[1]
    assert workflow_commands(ALL["passes"]) == ""


def test_a_check_that_could_not_be_made_is_an_annotation_of_one_line() -> None:
    line = failure(ConfigError("train.yaml:3: 100% wrong", "mend it"))
    assert line == "::error title=vram check could not be made::train.yaml:3: 100%25 wrong%0Amend it\n"


TEXTS = st.text(st.sampled_from("a:%,\r\n \u2028é") | st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
def test_nothing_in_an_annotation_ends_it_or_begins_another(title: str, message: str) -> None:
    line = command("error", title, message)
    assert not re.search(r"[\r\n]", line)
    start, properties, data = re.fullmatch(r"(::error) title=([^:,]*)::(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    assert start == "::error"
    # As the runner reads it, the escaped percent sign last.
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        properties = properties.replace(code, char)
        data = data if char in ":," else data.replace(code, char)
    assert (properties, data) == (title, message)
