"""An answer as a document: built once from its record (`report.answers`), rendered once per format (`report.formats`).

A document holds words and figures, and nothing about how they look: no Rich, no HTML, no colours. Strings are plain
text; each renderer escapes them, so that names from a user's config can be passed as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from vram_cli.records import Category, ImageSample, Timeline

Format = Literal["text", "markdown", "html"]
Line = tuple[str, str]
"""A label and the text that follows it."""

ALL_FORMATS: frozenset[Format] = frozenset({"text", "markdown", "html"})
PAGES: frozenset[Format] = frozenset({"markdown", "html"})
"""The formats with room for details that a terminal leaves out."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a document."""

    formats: frozenset[Format] = ALL_FORMATS
    """The formats that show it."""


@dataclass(frozen=True)
class Pairs(Block):
    """Labels with a text each, one pair per line. A text may have several lines."""

    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Notes(Block):
    """Remarks about the figures, or problems found in them."""

    lines: tuple[Line, ...]
    """Such as ("Note:", "the config changed since the baseline")."""
    is_problem: bool = False


@dataclass(frozen=True)
class Paragraph(Block):
    """A few sentences that explain what is shown above them."""

    text: str


@dataclass(frozen=True)
class Bullets(Block):
    """Sentences, one per bullet."""

    lines: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True)
class Bar:
    """A share from 0 to 1, drawn as a bar."""

    share: float
    parts: tuple[tuple[Category, float], ...] = ()
    """The categories that make up the share, each with its own share, for formats with enough colours."""
    level: Literal["high", "medium", "low", "free"] = "low"
    """How much of the memory in use it is, for formats with few colours."""


Cell = str | Bar

ColumnKind = Literal["name", "words", "key", "number", "bar"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Kinds: a "name" is cut where space is short, "words" are wrapped, a "key" (to be typed elsewhere) and a "number" are
    never cut, a "bar" takes the space that is left.
    """

    title: str
    kind: ColumnKind = "number"
    min_width: int = 0
    """Columns of the console below which text leaves it out."""
    formats: frozenset[Format] = ALL_FORMATS


@dataclass(frozen=True)
class Row:
    """The cells of a row, one per column."""

    cells: tuple[Cell, ...]
    level: int = 0
    """The depth in a tree; the first cell is indented."""
    style: Literal["", "dim", "bold"] = ""


@dataclass(frozen=True)
class Table(Block):
    """A table. Rows with levels are a tree, which HTML can fold."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[Cell, ...] = ()
    """The totals, one cell per column; empty for no footer."""
    caption: str = ""
    """What the columns mean, shown below the table."""
    is_tree: bool = False


@dataclass(frozen=True)
class Chart(Block):
    """A chart, drawn only by formats that show it: HTML, as inline SVG."""

    name: str
    """Unique within the document; letters, digits and hyphens."""
    title: str
    """Shown above a chart that is not inside `Details`, and read to readers who do not see it."""
    description: str
    """The figures of the chart in words, for the same readers."""
    figure: Callable[[], Any]
    """Draws it as a `matplotlib.figure.Figure`."""
    formats: frozenset[Format] = field(default=frozenset({"html"}), kw_only=True)


@dataclass(frozen=True)
class TimelineChart(Chart):
    """Memory over a step: text and Markdown draw it in characters."""

    timeline: Timeline | None = None


@dataclass(frozen=True)
class Samples(Block):
    """Images of the data, drawn in the terminal."""

    images: tuple[ImageSample, ...]
    class_names: tuple[str, ...]
    formats: frozenset[Format] = field(default=frozenset({"text"}), kw_only=True)


@dataclass(frozen=True)
class Command(Block):
    """A command to try next."""

    purpose: str
    """A verb phrase, such as "see where the memory goes at one size"."""
    words: tuple[str, ...]
    """The command line word by word, not yet quoted for a shell."""


@dataclass(frozen=True)
class Code(Block):
    """Text in a fixed-width font, such as a config."""

    text: str
    language: str = "text"


@dataclass(frozen=True)
class Details(Block):
    """A titled section; Markdown folds it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """An answer, ready to be rendered."""

    heading: Line
    """The answer in one line, such as ("Largest batch size:", "1,536 (10.6 of 12.0 GiB, 89 %)")."""
    summary: tuple[Line, ...] = ()
    """The lines that belong to it: recommended size, limit."""
    verdict: Literal["", "pass", "fail"] = ""
    """Whether the heading says that a check passes or fails."""
    context: str = ""
    """Command, config and origin of the figures, such as "vram find-batch, mlp_mnist.yaml, measured"."""
    remark: str = ""
    """A sentence to read before the figures, such as that they are predicted because this machine has no GPU."""
    blocks: tuple[Block, ...] = ()
    picture: Callable[[], Any] | None = None
    """Draws the figure that `--plot` writes; None if the answer has none."""
