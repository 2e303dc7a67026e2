"""One HTML page that needs nothing else: no network, no scripts; charts are inline SVG."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from vram_cli.errors import ConfigError
from vram_cli.files import check_writable, write_file
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.palette import COLOURS
from vram_cli.report.words import CATEGORY_LABELS, spelled
from vram_cli.shell import shell_word

Branch = tuple[doc.Row, list["Branch"]]
"""A row of a tree with the branches below it."""


def check_report(path: Path, *, force: bool = False) -> None:
    """Check that a page can be written there, before a long run rather than after it.

    Raises:
        ConfigError: the file's name does not end in .html or .htm, or it cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--report {path}: a report is an HTML page",
            "choose a name that ends in .html; for Markdown: --format markdown > report.md",
        )
    check_writable(path, force=force)


def save_report(document: doc.Document, path: Path, *, force: bool = False) -> None:
    """Write a document as a page: the whole file or nothing. An existing file is replaced only with `force`.

    Raises:
        ConfigError: as `check_report` does.
    """
    check_report(path, force=force)
    write_file(to_html(document), path, force=force)


def to_html(document: doc.Document) -> str:
    """Return the document as a page. Without matplotlib the page has no charts and says how to get them."""
    has_charts = any("html" in block.formats and isinstance(block, doc.Chart) for block in _flat(document.blocks))
    missing = charts.MISSING if has_charts and not charts.are_available() else ""
    return template("page.html").render(document=document, missing_charts=missing)


def _flat(blocks: tuple[doc.Block, ...]) -> list[doc.Block]:
    return [part for block in blocks for part in (_flat(block.blocks) if isinstance(block, doc.Details) else [block])]


@cache
def template(name: str) -> Template:
    """Return a template of the folder `templates`."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.globals |= {
        "chart": _chart,
        "colours": COLOURS,
        "kind_of": lambda block: type(block).__name__,
        "labels": CATEGORY_LABELS,
        "percent": lambda share: f"{100 * share:.2f}%",
        "quote": shell_word,
        "shown_columns": _shown_columns,
        "texts_of": _texts_of,
        "tree_of": _tree,
    }
    return environment.get_template(name)


def _visible(value: object) -> object:
    """Spell out invisible characters: a name may hold control characters, or some that reverse the text around it."""
    return spelled(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _chart(chart: doc.Chart) -> Markup:
    if not charts.are_available():
        return Markup("")
    svg = Markup(charts.inline_svg(chart.figure(), chart.name))  # noqa: S704 - matplotlib escapes the text in it
    name = chart.name
    label = Markup('<title id="{0}-title">{1}</title><desc id="{0}-desc">{2}</desc>').format(
        name, spelled(chart.title), spelled(chart.description)
    )
    start, rest = svg.split(">", 1)
    head = Markup('{0} role="img" aria-labelledby="{1}-title {1}-desc">{2}').format(start, name, label)
    return Markup('<div class="chart">{0}{1}</div>').format(head, rest)


def _shown_columns(table: doc.Table) -> list[int]:
    return [index for index, column in enumerate(table.columns) if "html" in column.formats]


def _texts_of(table: doc.Table) -> list[int]:
    return [index for index in _shown_columns(table) if table.columns[index].kind != "bar"]


def _tree(table: doc.Table) -> list[Branch]:
    """Return the rows of a tree, each with the rows below it."""
    top: list[Branch] = []
    path: list[list[Branch]] = [top]
    for row in table.rows:
        branch: Branch = (row, [])
        del path[row.level + 1 :]
        path[-1].append(branch)
        path.append(branch[1])
    return top
