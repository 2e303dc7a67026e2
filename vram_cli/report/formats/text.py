"""Text for a terminal, as wide as the console is. Numbers are never cut; names give way first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column as RichColumn
from rich.table import Table as RichTable
from rich.text import Text

from vram_cli.report import document as doc
from vram_cli.report.formats.samples import SampleImages
from vram_cli.report.formats.timeline import timeline_chart
from vram_cli.report.words import literal, spelled_line
from vram_cli.shell import shell_word

_INDENT, _GAP = 2, 2
_SHORTEST_BAR, _LONGEST_BAR = 14, 40
_BARS_FROM = 80
"""Columns of the console below which no bars are drawn."""
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_BAR_STYLES = {"high": "red", "medium": "yellow", "low": "green", "free": "dim"}
_VERDICT_STYLES = {"": "bold", "pass": "bold green", "fail": "bold red"}


def to_text(document: doc.Document) -> RenderableType:
    """Return the document for a Rich console, to be drawn as wide as the console is."""
    return _Sections(lambda width: _document(document, width))


def shown_in_text(block: doc.Block) -> RenderableType:
    """Return one block, as `to_text` draws it."""
    return _Sections(lambda width: iter([_block(block, width)]))


class _Sections:
    """Sections with an empty line between them, built when the width of the console is known."""

    def __init__(self, sections: Callable[[int], Iterator[RenderableType]]) -> None:
        self._sections = sections

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for index, section in enumerate(self._sections(options.max_width)):
            if index:
                yield Segment.line()
            yield section


class _Rules(Box):
    """A rule below the head and one above the total, nothing else; dashes if the encoding has no box characters."""

    def __init__(self, rule: str) -> None:
        blank, ruled = "    ", f" {rule}{rule} "
        super().__init__("\n".join([blank, blank, ruled, blank, blank, ruled, blank, blank]), ascii=rule.isascii())

    def substitute(self, options: ConsoleOptions, safe: bool = True) -> Box:  # noqa: ARG002 - Rich names it
        return _ASCII_RULES if options.ascii_only else self


_RULES = _Rules("─")
_ASCII_RULES = _Rules("-")


class _Bar:
    """A bar of eighths of a block, or of `#` if the encoding has no block characters.

    A share above zero always leaves a mark, however small it is.
    """

    def __init__(self, bar: doc.Bar, width: int) -> None:
        self._share, self._width, self._style = bar.share, width, _BAR_STYLES[bar.level]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self._hashes() if options.ascii_only else self._blocks()
        yield Segment(text.ljust(self._width), console.get_style(self._style))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        # The whole width: a bar that gave way would show another share.
        return Measurement(self._width, self._width)

    def _blocks(self) -> str:
        full, eighths = divmod(max(round(self._share * self._width * 8), int(self._share > 0)), 8)
        return "█" * full + _EIGHTHS[eighths]

    def _hashes(self) -> str:
        return "#" * round(self._share * self._width) or ("." if self._share > 0 else "")


def _document(document: doc.Document, width: int) -> Iterator[RenderableType]:
    if document.remark:
        yield literal(document.remark, "yellow")
    style = _VERDICT_STYLES[document.verdict]
    lines = [(document.heading, style), *((line, "bold") for line in document.summary)]
    if document.summary:
        yield _grid([(literal(label, look), literal(text)) for (label, text), look in lines])
    else:
        label, text = document.heading
        yield Text.assemble(literal(label, style), " " if text else "", literal(text))
    for block in document.blocks:
        if "text" in block.formats:
            yield _block(block, width)


def _block(block: doc.Block, width: int) -> RenderableType:  # noqa: PLR0911 - one return per kind of block
    match block:
        case doc.Pairs():
            return _grid([(literal(label, "dim"), literal(text)) for label, text in block.lines])
        case doc.Notes():
            style = "red" if block.is_problem else "yellow"
            return _grid([(literal(label, style), literal(text)) for label, text in block.lines])
        case doc.Paragraph():
            return literal(block.text, "dim")
        case doc.Bullets():
            bullets = _grid([(Text("-"), literal(line)) for line in block.lines])
            return Group(literal(block.title, "bold"), bullets) if block.title else bullets
        case doc.Table():
            return _table(block, width)
        case doc.TimelineChart() if block.timeline is not None:
            return timeline_chart(block.timeline, block.description)
        case doc.Samples():
            return SampleImages(block.images, block.class_names)
        case doc.Command():
            words = literal(_command(block.words, width - _INDENT), "cyan")
            return Group(Text.assemble(("Next: ", "bold"), literal(block.purpose)), Padding(words, (0, 0, 0, _INDENT)))
        case doc.Code():
            return literal(block.text)
        case doc.Details():
            return _details(block, width)
    raise TypeError(f"text has no {type(block).__name__}")


def _details(details: doc.Details, width: int) -> RenderableType:
    parts: list[RenderableType] = [literal(details.title, "bold")] if details.title else []
    for index, block in enumerate(block for block in details.blocks if "text" in block.formats):
        indent = _INDENT if isinstance(block, doc.Pairs) else 0
        parts.append(Padding(_block(block, width - indent), (int(index > 0), 0, 0, indent)))
    return Group(*parts)


def _table(table: doc.Table, width: int) -> RenderableType:
    columns = [
        index
        for index, column in enumerate(table.columns)
        if "text" in column.formats and width >= (_BARS_FROM if column.kind == "bar" else column.min_width)
    ]
    bar = _bar_width(table, [index for index in columns if table.columns[index].kind != "bar"], width)
    footer = table.footer or ("",) * len(table.columns)
    drawn = RichTable(
        *(_column(table.columns[index], footer[index]) for index in columns),
        box=_RULES,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        border_style="dim",
        footer_style="bold",
        show_footer=bool(table.footer),
    )
    for row in table.rows:
        cells = [_cell(row.cells[index], table.columns[index], bar, row.level if not index else 0) for index in columns]
        drawn.add_row(*cells, style=row.style)
    parts: list[RenderableType] = [literal(table.title, "bold")] if table.title else []
    parts += [drawn, *([literal(table.caption, "dim")] if table.caption else [])]
    return Group(*parts)


def _column(column: doc.Column, footer: doc.Cell) -> RichColumn:
    total = footer if isinstance(footer, str) else ""
    match column.kind:
        case "number":
            return RichColumn(column.title, total, justify="right", no_wrap=True)
        case "key" | "bar":
            return RichColumn(column.title, total, no_wrap=True)
        case "words":
            return RichColumn(column.title, total, overflow="fold")
        case "name":
            return RichColumn(column.title, total, overflow="ellipsis")


def _cell(cell: doc.Cell, column: doc.Column, bar_width: int, level: int) -> RenderableType:
    if isinstance(cell, doc.Bar):
        return _Bar(cell, bar_width)
    text = literal("  " * level + cell)
    if column.kind == "name":
        text.no_wrap = True  # of the cell: a column that wraps nothing does not give way to numbers either
    return text


def _bar_width(table: doc.Table, columns: Sequence[int], width: int) -> int:
    """Return the width of the bars: the space that the other columns leave, within limits."""
    longest = [
        max(cell_len(text) for text in (table.columns[index].title, *_texts(table, index))) + _GAP for index in columns
    ]
    return min(max(width - sum(longest), _SHORTEST_BAR), _LONGEST_BAR)


def _texts(table: doc.Table, index: int) -> Iterator[str]:
    cells = [(row.cells[index], row.level) for row in table.rows] + [
        (cells[index], 0) for cells in [table.footer] if cells
    ]
    for cell, level in cells:
        if isinstance(cell, str):
            yield cell if index else "  " * level + cell


def _grid(lines: Sequence[tuple[Text, Text]]) -> RichTable:
    """Return labels, never cut, with the text that follows them folded beside them."""
    grid = RichTable.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(*line)
    return grid


def _command(words: Sequence[str], width: int) -> str:
    """Return the command quoted for a shell; if it is too long for a line, each option has a line of its own.

    So has the command of a script, after --.
    """
    quoted = [shell_word(spelled_line(word)) for word in words]
    line = " ".join(quoted)
    if len(line) <= width:
        return line
    end = words.index("--") + 1 if "--" in words else len(words)
    options = "".join(f" \\\n  {word}" if word.startswith("--") else f" {word}" for word in quoted[:end])
    return " ".join([options.lstrip(), *quoted[end:]])
