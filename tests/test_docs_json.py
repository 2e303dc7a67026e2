"""docs/json.md has the tables of the records and every key; `pytest --overwrite` regenerates it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vram_cli.hardware.gpus import all_gpus
from vram_cli.records import ErrorReport
from vram_cli.report.formats.json import error_to_json, gpus_to_json, to_json

from .compare.comparisons import COMPLETE
from .json_reference import reference
from .report.advices import PREDICTED, RANKS
from .report.examples import detailed, detailed_search
from .report.inspections import FILES
from .report.verdicts import verdicts

PAGE = Path(__file__).parents[1] / "docs" / "json.md"
MARK = "<!-- Generated from vram_cli/records: pytest tests/test_docs_json.py --overwrite -->\n\n"
FREE = {"config", "versions", "by_category", "cudnn_device"}
"""Objects whose keys are not fields: config keys, names of packages, categories, cuDNN's keys."""


def keys(document: Any) -> Iterator[str]:
    if isinstance(document, list):
        for part in document:
            yield from keys(part)
    elif isinstance(document, dict):
        for key, part in document.items():
            yield key
            if key not in FREE:
                yield from keys(part)


def test_tables_are_those_of_the_records(request: pytest.FixtureRequest) -> None:
    before = PAGE.read_text(encoding="utf-8")
    assert before.count(MARK) == 1
    after = before.partition(MARK)[0] + MARK + reference()
    if request.config.getoption("--overwrite"):
        PAGE.write_text(after, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == after, "pytest --overwrite rewrites the page"


def test_every_key_is_on_the_page() -> None:
    records = (detailed(), detailed_search(), PREDICTED, RANKS, COMPLETE, FILES, *verdicts().values())
    error = error_to_json(ErrorReport(kind="ConfigError", message="", hint="", exit_code=2))
    answers = [error, gpus_to_json(all_gpus()), *map(to_json, records)]
    page = PAGE.read_text(encoding="utf-8")
    assert {key for answer in answers for key in keys(json.loads(answer)) if f"`{key}`" not in page} == set()
