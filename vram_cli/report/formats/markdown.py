"""GitHub-flavoured Markdown, for pull requests and the summaries of CI jobs."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator

from rich.console import Console

from vram_cli.report import document as doc
from vram_cli.report.console import Trimmed
from vram_cli.report.formats.text import shown_in_text
from vram_cli.report.words import one_line, spelled
from vram_cli.shell import shell_line

_WIDTH = 80
"""Columns of drawings in characters: a comment shows that many without a scroll bar."""
_NO_MENTION = "@&#8203;"
"""Behind a zero-width space, no name begins."""
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~!$]")
_VERDICTS = {"": "", "pass": "✅ ", "fail": "❌ "}
_LEFT = ("name", "words", "key")


def to_markdown(document: doc.Document) -> str:
    """Return the document as Markdown."""
    return "\n\n".join(_document(document)) + "\n"


def escaped(text: str) -> str:
    """Return text escaped for the inside of a line; an @name in it sends no notification on GitHub."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(spelled(text).split()).replace("&", "&amp;"))
    return line.replace("@", _NO_MENTION)


def _document(document: doc.Document) -> Iterator[str]:
    label, text = document.heading
    yield f"### {_VERDICTS[document.verdict]}{escaped(label)} {escaped(text)}".rstrip()
    if document.summary:
        yield "\\\n".join(_bold(line) for line in document.summary)
    if document.remark:
        yield f"> {_bold(('Note:', document.remark))}"
    yield from _blocks(document.blocks)


def _blocks(blocks: Iterable[doc.Block]) -> Iterator[str]:
    for block in blocks:
        if "markdown" in block.formats:
            yield _block(block)


def _block(block: doc.Block) -> str:  # noqa: PLR0911 - one return per kind of block
    match block:
        case doc.Pairs():
            return "\n".join(f"- {_bold((label, text.replace(chr(10), '; ')))}" for label, text in block.lines)
        case doc.Notes():
            return "\n\n".join(f"{'' if block.is_problem else '> '}{_bold(line)}" for line in block.lines)
        case doc.Paragraph():
            return escaped(block.text)
        case doc.Bullets():
            title = f"**{escaped(block.title)}**\n\n" if block.title else ""
            return title + "\n".join(f"- {escaped(line)}" for line in block.lines)
        case doc.Table():
            return _drawn(block) if block.is_tree else _table(block)
        case doc.TimelineChart():
            return _drawn(block)
        case doc.Command():
            return _folded(f"To {block.purpose}", _code(shell_line(block.words), "sh"))
        case doc.Code():
            return _code(block.text, block.language)
        case doc.Details():
            return _folded(block.title, "\n\n".join(_blocks(block.blocks)))
    raise TypeError(f"Markdown has no {type(block).__name__}")


def _bold(line: doc.Line) -> str:
    label, text = line
    return f"**{escaped(label)}** {escaped(text)}"


def _table(table: doc.Table) -> str:
    shown = [
        index for index, column in enumerate(table.columns) if column.kind != "bar" and "markdown" in column.formats
    ]
    heads = [escaped(table.columns[index].title) for index in shown]
    rules = [":---" if table.columns[index].kind in _LEFT else "---:" for index in shown]
    rows = [[escaped(str(row.cells[index])) for index in shown] for row in table.rows]
    if table.footer:
        rows.append([f"**{escaped(cell)}**" if (cell := str(table.footer[index])) else "" for index in shown])
    parts = [f"**{escaped(table.title)}**"] if table.title else []
    parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)))
    return "\n\n".join([*parts, *([escaped(table.caption)] if table.caption else [])])


def _drawn(block: doc.Block) -> str:
    """Return a block as the terminal shows it, in a block of code."""
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(Trimmed(shown_in_text(block)))
    return _code(stream.getvalue(), "text")


def _folded(title: str, content: str) -> str:
    # A line that begins with a tag is HTML to its end, so the title is escaped as HTML.
    summary = html.escape(one_line(spelled(title)), quote=False).replace("@", _NO_MENTION)
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _code(text: str, language: str) -> str:
    """Return a block of code, with a fence that is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{spelled(text).rstrip()}\n{fence}"
