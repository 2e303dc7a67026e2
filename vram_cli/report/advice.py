"""The answer of `vram advise`: what each change would do, the best of them together, and what was asked besides."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, OptimizationResult
from vram_cli.report.answer import next_command
from vram_cli.report.next_step import to_use
from vram_cli.report.tables import numbers, pairs, ruled
from vram_cli.report.words import CATEGORY_LABELS, count, literal, number, one_line
from vram_cli.units import format_bytes

CARD_HEADS = ("card", "memory", "as it is", "at best", "with")

_WITH_SAVINGS = 76
"""Columns below which it is left out what a change saves."""
_WITH_ROWS = 100
_REFUSAL_LIMIT = 160
_INDENT = 2


def advice_text(advice: Advice) -> RenderableType:
    """Return the advice, to be drawn as wide as the console is."""
    return _Text(advice)


def summary(advice: Advice) -> list[tuple[str, str]]:
    """Return the lines above the table: as it is, the best, and what was asked; label and text of each."""
    device = advice.run.device
    origin = "measured" if device.kind == "real" else "predicted"
    where = f"on {device.name}, {format_bytes(device.capacity_bytes)} ({origin})"
    lines = [("As it is:", f"{_as_it_is(advice)} {where}"), _best(advice)]
    lines += [(f"To train with {number(split.wanted)}:", _split(split)) for split in _splits(advice)]
    if advice.rate is not None:
        rate = advice.rate
        before = f"{rate.from_rate:g} at {number(rate.from_batch_size)}"
        lines.append(("Learning rate:", f"{rate.rate:.3g} at {number(rate.batch_size)}, from {before}: {rate.note}"))
    if advice.interrupted:
        lines.append(("Interrupted:", f"{count(len(advice.levers), 'change')} had been tried; what follows is known"))
    return lines


def lever_heads(advice: Advice) -> tuple[str, ...]:
    """Return the heads of the columns of `lever_rows`."""
    return "change", "largest", "gain", f"saves at {number(advice.at_batch_size)}", "from", "costs"


def lever_rows(advice: Advice) -> list[tuple[str, ...]]:
    """Return the cells of each change that helps, the strongest first."""
    helping = [lever for lever in advice.levers if lever.helps]
    helping.sort(key=lambda lever: -lever.pieces * (lever.max_batch_size or 0))
    return [_row(lever, advice) for lever in helping]


def useless(advice: Advice) -> list[tuple[str, str]]:
    """Return the changes that do not help, each with why."""
    return [(lever.name, _why(lever)) for lever in advice.levers if not lever.helps]


def card_rows(cards: Sequence[GpuEstimate]) -> list[tuple[str, ...]]:
    """Return the cells below `CARD_HEADS`."""
    return [_card(card) for card in cards]


def remarks(advice: Advice) -> list[tuple[str, str]]:
    """Return what a reader should know of the figures; label and text of each."""
    accuracy = [("Accuracy:", advice.run.device.accuracy)] if advice.run.device.accuracy else []
    return [*accuracy, *(("Note:", note) for note in advice.notes)]


class _Text:
    def __init__(self, advice: Advice) -> None:
        self._advice = advice

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the sections with an empty line between two."""
        for index, section in enumerate(self._sections(options.max_width)):
            if index:
                yield Segment.line()
            yield section

    def _sections(self, width: int) -> Iterator[RenderableType]:
        advice = self._advice
        if advice.run.remark:
            yield literal(advice.run.remark, "yellow")
        yield pairs([(literal(label, "bold"), literal(text)) for label, text in summary(advice)])
        if rows := lever_rows(advice):
            yield _table(advice, rows, width)
        if others := useless(advice):
            yield Group(Text("What does not help", "bold"), Padding(_folded(others, width), (0, 0, 0, _INDENT)))
        if advice.cards:
            yield _cards(advice.cards)
        if lines := remarks(advice):
            yield pairs([(Text(label, "yellow"), literal(text)) for label, text in lines])
        yield next_command(to_use(advice), width)


def _table(advice: Advice, rows: Sequence[tuple[str, ...]], width: int) -> RenderableType:
    heads = lever_heads(advice)
    hidden = {"from"} if width < _WITH_ROWS else set()
    if width < _WITH_SAVINGS or advice.breakdown is None:
        hidden |= {"from", heads[3]}
    shown = [index for index, head in enumerate(heads) if head not in hidden]
    table = _ruled([heads[index] for index in shown], {"change", "from", "costs"})
    for row in rows:
        table.add_row(*(literal(row[index]) for index in shown))
    return Group(Text("What helps, each by itself", "bold"), table)


def _ruled(heads: Sequence[str], words: set[str]) -> Table:
    """Return a table that cuts nothing: changes that somebody asked for differ in what they end with."""
    return ruled(*(Column(head, overflow="fold") if head in words else numbers(head) for head in heads))


def _folded(lines: Sequence[tuple[str, str]], width: int) -> RenderableType:
    """Return changes with why they do not help; a long name is folded, for somebody may have given it."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold", max_width=width * 2 // 5)
    grid.add_column(overflow="fold")
    for name, why in lines:
        grid.add_row(literal(name), literal(why, "dim"))
    return grid


def _cards(cards: Sequence[GpuEstimate]) -> RenderableType:
    table = _ruled(CARD_HEADS, {"card", "with"})
    for row in card_rows(cards):
        table.add_row(*map(literal, row))
    return Group(Text("The same on other cards (predicted)", "bold"), table)


def _as_it_is(advice: Advice) -> str:
    if not advice.interrupted or advice.levers:
        return _size(advice.max_batch_size)
    return f"at least {number(advice.max_batch_size)}" if advice.max_batch_size else "nothing known yet"


def _best(advice: Advice) -> tuple[str, str]:
    label = "Best so far:" if advice.interrupted else "Best together:"
    best = advice.best
    if best is None:
        return label, "nothing that was tried makes a larger batch fit"
    gain = _gain(best.max_batch_size, advice.max_batch_size)
    return label, f"{_size(best.max_batch_size)}{f' ({gain})' if gain else ''} with {best.name}"


def _row(lever: OptimizationResult, advice: Advice) -> tuple[str, ...]:
    size = lever.max_batch_size
    largest = f"{lever.pieces} x {_size(size)}" if lever.pieces > 1 else _size(size)
    gain = _gain(size and size * lever.pieces, advice.max_batch_size) or "-"
    saves = "-" if lever.saved_bytes is None else format_bytes(lever.saved_bytes)
    source = CATEGORY_LABELS[lever.saved_from] if lever.saved_from else "-"
    return lever.name, largest, gain, saves, source, _costs(lever)


def _costs(lever: OptimizationResult) -> str:
    """Return what a change costs; measured seconds before counted operations before words alone."""
    figures = ((lever.seconds, "step time, measured"), (lever.compute, "operations"))
    known = [f"{100 * ratio - 100:+.0f} % {what}" for ratio, what in figures if ratio and abs(ratio - 1) >= 0.005]
    return "; ".join(filter(None, (*known[:1], lever.price))) or "nothing known"


def _why(lever: OptimizationResult) -> str:
    reached = f"{_size(lever.max_batch_size)}: " if lever.max_batch_size else ""
    return reached + one_line(lever.why, _REFUSAL_LIMIT)


def _card(card: GpuEstimate) -> tuple[str, ...]:
    best, memory = card.best, format_bytes(card.capacity_bytes)
    if card.why:
        return card.name, memory, "-", "-", one_line(card.why, _REFUSAL_LIMIT)
    at_best, what = (_size(best.max_batch_size), best.name) if best else ("-", "nothing helps")
    return card.name, memory, _size(card.max_batch_size), at_best, what


def _gain(after: int | None, before: int | None) -> str:
    return f"x{after / before:.2f}" if after and before else ""


def _size(size: int | None) -> str:
    return "nothing fits" if size is None else number(size)


def _splits(advice: Advice) -> list[AccumulationPlan]:
    return [split for split in (advice.fit, advice.effective) if split is not None]


def _split(split: AccumulationPlan) -> str:
    if split.micro_batch_size is None:
        return f"cannot be done: {split.note}"
    if split.accumulate > 1:
        flag = f"--set train.gradient_accumulation_steps={split.accumulate}"
        cut = f"{count(split.accumulate, 'piece')} of {number(split.micro_batch_size)}, gradients added up ({flag})"
        return "; ".join(filter(None, (cut, split.note)))
    flags = shlex.join([word for text in split.sets for word in ("--set", text)])
    return f"{split.note} ({flags})" if flags else split.note
