"""The tables: where the memory goes, and which trials ran. Numbers are never cut; names give way first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import Box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement as Extent
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from vram_cli.records import Breakdown, BreakdownRow, Category, Device, Measurement
from vram_cli.report.words import CATEGORY_LABELS, literal, number, origin, outcome_label, percent, place
from vram_cli.units import format_bytes, format_exact

SIZE_HEADS = ("size", "bytes", "share")
TRIAL_HEADS = ("batch size", "outcome", "allocated", "reserved", "seconds")

_WIDE = 80
_SHORT_LABELS_BELOW = 70
_NUMBER_COLUMNS = 66
"""What labels and three number columns take, with the gap that follows them; the bar has the rest."""
_LONGEST_BAR = 40
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


class _Rules(Box):
    """A rule below the head and one above the total, nothing else; dashes where the encoding has no box characters."""

    def __init__(self, rule: str) -> None:
        blank, ruled = "    ", f" {rule}{rule} "
        super().__init__("\n".join([blank, blank, ruled, blank, blank, ruled, blank, blank]), ascii=rule.isascii())

    def substitute(self, options: ConsoleOptions, safe: bool = True) -> Box:  # noqa: ARG002 - rich names it
        return _ASCII_RULES if options.ascii_only else self


_RULES = _Rules("─")
_ASCII_RULES = _Rules("-")


class Bar:
    """A share from 0 to 1 as a bar: eighths of a block, or `#` where the encoding has no block characters.

    A share above zero always leaves a mark, however small it is.
    """

    def __init__(self, share: float, width: int, style: str) -> None:
        self.share = share
        self.width = width
        self.style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        text = self._hashes() if options.ascii_only else self._blocks()
        yield Segment(text.ljust(self.width), console.get_style(self.style))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Extent:
        """Ask for the whole width: a bar that gave way would show another share."""
        return Extent(self.width, self.width)

    def _blocks(self) -> str:
        full, eighths = divmod(max(round(self.share * self.width * 8), int(self.share > 0)), 8)
        return "█" * full + _EIGHTHS[eighths]

    def _hashes(self) -> str:
        return "#" * round(self.share * self.width) or ("." if self.share > 0 else "")


def breakdown_table(breakdown: Breakdown, device: Device, width: int) -> RenderableType:
    """Return where the memory is at the peak, a row a category, for a console of `width` columns.

    The exact bytes of the rows add up to the total printed below them, and shares are parts of that total. Colours
    follow the part of what is used, with the thresholds of memray's summary: red above 60 %, yellow above 20 %.
    """
    total = breakdown.total_bytes
    table = ruled(
        names("", "total"),
        *(numbers(*column) for column in zip(SIZE_HEADS, size_cells(total, total), strict=True)),
    )
    table.show_footer = True
    if width >= _WIDE:
        table.add_column("")
    for row in breakdown.rows:
        cells = [_label(row.category, width), *size_cells(row.bytes, total)]
        bar = [_bar(row, breakdown, width)] if width >= _WIDE else []
        table.add_row(*cells, *bar, style="" if row.bytes else "dim")
    return Group(literal(breakdown_title(breakdown, device), "bold"), table)


def trials_table(trials: Sequence[Measurement], width: int) -> RenderableType:
    """Return the trials in the order in which they ran; below 80 columns without what was allocated at the peak."""
    shown = [head for head in TRIAL_HEADS if head != "allocated" or width >= _WIDE]
    table = ruled(*(names(head) if head == "outcome" else numbers(head) for head in shown))
    for trial in trials:
        cells = dict(zip(TRIAL_HEADS, trial_cells(trial), strict=True))
        table.add_row(*(cells[head] for head in shown), style="" if trial.fits else "dim")
    return Group(literal("Trials in order, with their peak memory", "bold"), table)


def breakdown_title(breakdown: Breakdown, device: Device) -> str:
    """Return what a breakdown is of."""
    where = place(breakdown.peak_phase)
    return f"Peak memory at batch size {number(breakdown.batch_size)}, {where} ({origin(device)})"


def trials_title(device: Device) -> str:
    """Return what the trials' figures are."""
    return f"Peak memory of each trial ({origin(device)})"


def size_cells(size: int, total: int) -> tuple[str, str, str]:
    """Return the cells below `SIZE_HEADS`."""
    return format_bytes(size), format_exact(size), percent(size, total, 1)


def trial_cells(trial: Measurement) -> tuple[str, str, str, str, str]:
    """Return the cells below `TRIAL_HEADS`."""
    allocated, reserved = (
        format_bytes(peak) if peak else "-" for peak in (trial.peak_allocated_bytes, trial.peak_reserved_bytes)
    )
    return number(trial.batch_size), outcome_label(trial), allocated, reserved, f"{trial.seconds:.1f}"


def ruled(*columns: Column) -> Table:
    """Return an empty table with a rule below its head."""
    return Table(
        *columns, box=_RULES, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim",
        border_style="dim", footer_style="bold",
    )  # fmt: skip


def names(header: str, footer: str = "") -> Column:
    """Return a column of words, which give way where the console is narrow."""
    return Column(header, footer, overflow="ellipsis")


def numbers(header: str, footer: str = "") -> Column:
    """Return a column of numbers, which are never cut."""
    return Column(header, footer, justify="right", no_wrap=True)


def pairs(lines: Sequence[tuple[Text, Text]]) -> Table:
    """Return labels, never cut, with what follows them folded beside them."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(*line)
    return grid


def _label(category: Category, width: int) -> str:
    label = CATEGORY_LABELS[category]
    return label.replace(" and ", ", ") if width < _SHORT_LABELS_BELOW else label


def _bar(row: BreakdownRow, breakdown: Breakdown, width: int) -> Bar:
    share = row.bytes / breakdown.total_bytes if breakdown.total_bytes else 0.0
    return Bar(share, min(width - _NUMBER_COLUMNS, _LONGEST_BAR), _colour(row, breakdown))


def _colour(row: BreakdownRow, breakdown: Breakdown) -> str:
    if row.category is Category.FREE:
        return "dim"
    used = breakdown.total_bytes - breakdown.bytes_of(Category.FREE)
    share = row.bytes / used if used else 0.0
    return "red" if share > 0.6 else "yellow" if share > 0.2 else "green"
