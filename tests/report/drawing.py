"""Draw answers as a console of a given width and encoding would, off a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from vram_cli.cli.output import document_of
from vram_cli.report import document as doc
from vram_cli.report.console import Trimmed
from vram_cli.report.formats.html import to_html
from vram_cli.report.formats.markdown import to_markdown
from vram_cli.report.formats.text import shown_in_text, to_text

WIDTHS = (60, 80, 120)


def draw(drawing: RenderableType, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    Console(file=stream, width=width, height=25, markup=False, highlight=False).print(Trimmed(drawing))
    stream.seek(0)
    return stream.read()


def text(record: Any, width: int = 80, encoding: str = "utf-8", **options: Any) -> str:
    """Return an answer as text."""
    return draw(to_text(document_of(record, **options)), width, encoding)


def flat(record: Any, width: int = 120, **options: Any) -> str:
    """Return an answer as text without its line breaks."""
    return " ".join(text(record, width, **options).split())


def block(part: doc.Block, width: int = 80, encoding: str = "utf-8") -> str:
    """Return one block as text."""
    return draw(shown_in_text(part), width, encoding)


def markdown(record: Any, **options: Any) -> str:
    """Return an answer as Markdown."""
    return to_markdown(document_of(record, **options))


def html(record: Any, **options: Any) -> str:
    """Return an answer as a page."""
    return to_html(document_of(record, **options))


def body(page: str) -> str:
    """Return a page without its head: a change of colour is no change of the page."""
    return page[page.index("<body>") :]


def assert_within(width: int, drawn: str) -> None:
    """Check that no line is longer than the width or ends in spaces."""
    lines = drawn[: drawn.find("\nNext: ") + 1 or None].splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
