"""The page: a template filled with the same words and cells that the terminal shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from vram_cli.errors import ConfigError
from vram_cli.records import Advice, Result
from vram_cli.report import advice as levers  # `advice` is what is drawn
from vram_cli.report import evidence, tables, throughput, words
from vram_cli.report.headline import headline
from vram_cli.report.html.area import area_chart
from vram_cli.report.html.bar import segments
from vram_cli.report.html.marks import trials_chart
from vram_cli.report.html.paces import paces_chart
from vram_cli.report.modules import module_tree, modules_title
from vram_cli.report.next_step import again, next_step, to_use
from vram_cli.report.palette import COLOURS
from vram_cli.report.saved import check_writable, write
from vram_cli.report.timeline import highest_moment, timeline_title
from vram_cli.units import format_bytes, format_exact

_DEEPEST = 20
"""Levels of modules: more than any model nests them for a reader."""
_MESSAGE_LIMIT = 2000
"""Characters of an exception's message: there is room for all that its author wrote."""


def check_report(path: Path, *, force: bool = False) -> None:
    """Check that `save_report` would work, so that nobody learns after a long run that it does not.

    Raises:
        ConfigError: the file's name does not end as a page's, or it cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--report {path}: a report is a page of HTML",
            "let it end in .html; for Markdown: --format markdown > report.md",
        )
    check_writable(path, force=force)


def save_report(result: Result | Advice, path: Path, *, force: bool = False) -> None:
    """Write a result as a page: the whole file or nothing. An existing file is replaced only with `force`.

    Raises:
        ConfigError: as `check_report` does.
    """
    check_report(path, force=force)
    write(to_html(result), path, force=force)


def to_html(result: Result | Advice) -> str:
    """Return a result as a page; modules and timeline are shown where the result has them."""
    made = result.breakdown
    name, own = _advice(result) if isinstance(result, Advice) else _result(result)
    return _template(name).render(
        result=result,
        made=made,
        breakdown_segments=segments({row.category: row.bytes for row in made.rows}, made.total_bytes) if made else [],
        config=yaml.safe_dump(result.run.config, sort_keys=False, allow_unicode=True),
        **own,
    )


def _result(result: Result) -> tuple[str, dict[str, Any]]:
    made = result.breakdown
    timeline = made.timeline if made else None
    return "report.html", {
        "headline": headline(result),
        "evidence_title": evidence.evidence_title(result),
        "evidence": [line for line in evidence.evidence(result) if line[0] not in ("proof", "versions")],
        "proof": evidence.proof(result, _MESSAGE_LIMIT),
        "area": area_chart(timeline) if timeline else None,
        "tree": module_tree(made.modules, _DEEPEST) if made and made.modules else None,
        "trials": trials_chart(result.trials, result.run.device) if result.command == "find-batch" else None,
        "paces": paces_chart(result.throughput) if result.throughput else None,
        "commands": [again(result), next_step(result)],
    }


def _advice(advice: Advice) -> tuple[str, dict[str, Any]]:
    as_it_is, best, *others = levers.summary(advice)
    return "advice.html", {
        "headline": [best, as_it_is, *others],
        "rows": levers.lever_rows(advice),
        "useless": levers.useless(advice),
        "trials": None,
        "commands": [to_use(advice)],
    }


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {
        "colours": COLOURS,
        "labels": words.CATEGORY_LABELS,
        "levers": levers,
        "tables": tables,
        "speed": throughput,
        "words": words,
        "quote": quote,
        "format_bytes": format_bytes,
        "format_exact": format_exact,
        "modules_title": modules_title,
        "timeline_title": timeline_title,
        "highest_moment": highest_moment,
        "segments": segments,
    }
    return environment.get_template(name)


def _shown(value: object) -> object:
    """Spell out what cannot be seen: a name may hold control characters, or some that turn the text around."""
    return words.spelled(value) if isinstance(value, str) and not isinstance(value, Markup) else value
