"""docs/json.md: its tables are those of the records, and it has every key; `pytest --overwrite` renews it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vram_cli.hardware.gpus import all_gpus
from vram_cli.report.gpus import gpus_as_json
from vram_cli.report.inspection import inspection_as_json
from vram_cli.report.saved import to_json
from vram_cli.report.verdict import verdict_as_json

from .compare.comparisons import COMPLETE
from .json_reference import reference
from .report.advices import PREDICTED
from .report.examples import detailed
from .report.inspections import FILES
from .report.verdicts import verdicts

PAGE = Path(__file__).parents[1] / "docs" / "json.md"
MARK = (
    "<!-- What follows is made from the records in vram_cli/results: pytest tests/test_docs_json.py --overwrite -->\n\n"
)
FREE = {"config", "versions", "by_category"}
"""Objects whose keys are no fields: those of a config, names of packages, rows."""


def keys(document: Any) -> Iterator[str]:
    if isinstance(document, list):
        for part in document:
            yield from keys(part)
    elif isinstance(document, dict):
        for key, part in document.items():
            yield key
            if key not in FREE:
                yield from keys(part)


def test_the_tables_are_those_of_the_records(request: pytest.FixtureRequest) -> None:
    before = PAGE.read_text(encoding="utf-8")
    assert before.count(MARK) == 1
    after = before.partition(MARK)[0] + MARK + reference()
    if request.config.getoption("--overwrite"):
        PAGE.write_text(after, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == after, "look, then run pytest --overwrite"


def test_every_key_of_an_answer_is_in_the_page() -> None:
    answers = [
        to_json(detailed()),
        to_json(PREDICTED),
        to_json(COMPLETE),
        inspection_as_json(FILES),
        gpus_as_json(all_gpus()),
    ]
    answers += [verdict_as_json(verdict) for verdict in verdicts().values()]
    page = PAGE.read_text(encoding="utf-8")
    assert {key for answer in answers for key in keys(json.loads(answer)) if f"`{key}`" not in page} == set()
