"""The answer of `vram advise`: what each change would do, the best of them together, and what was asked besides."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from vram_cli.report.tables import names, numbers, pairs, ruled
from vram_cli.report.words import CATEGORY_LABELS, count, literal, number, one_line, origin
from vram_cli.results import Advice, CardAnswer, LeverAnswer, SplitAnswer
from vram_cli.units import format_bytes

_WITH_SAVINGS = 76
"""Columns below which it is left out what a change saves."""
_WITH_ROWS = 100
_REFUSAL_LIMIT = 160


def advice_as_json(advice: Advice) -> str:
    """Return the advice as one JSON object; sizes are in bytes."""
    return json.dumps({"schema_version": advice.schema_version} | asdict(advice), indent=2)


def advice_text(advice: Advice) -> RenderableType:
    """Return the advice, to be drawn as wide as the console is."""
    return _Text(advice)


def summary(advice: Advice) -> list[tuple[str, str]]:
    """Return the lines above the table: as it is, the best, and what was asked; label and text of each."""
    device = advice.device
    where = f"on {device.name}, {format_bytes(device.capacity_bytes)} ({origin(device)})"
    lines = [("As it is:", f"{_size(advice.max_batch_size)} {where}")]
    if advice.best is not None:
        gain = _gain(advice.best.max_batch_size, advice.max_batch_size)
        lines.append(("Best together:", f"{_size(advice.best.max_batch_size)} {gain} with {advice.best.name}"))
    else:
        lines.append(("Best together:", "nothing that was tried makes a larger batch fit"))
    lines += [(f"To train with {number(split.wanted)}:", _split(split)) for split in _splits(advice)]
    if advice.rate is not None:
        rate = advice.rate
        change = (
            f"{rate.rate:.3g} at {number(rate.batch_size)}, from {rate.from_rate:g} at {number(rate.from_batch_size)}"
        )
        lines.append(("Learning rate:", f"{change}: {rate.note}"))
    return lines


def lever_rows(advice: Advice) -> tuple[list[tuple[str, ...]], list[tuple[str, str]]]:
    """Return a row for each change that helps (name, largest, gain, saves, from, costs), and why the others do not."""
    helping = sorted((lever for lever in advice.levers if lever.helps), key=lambda lever: -(lever.max_batch_size or 0))
    rows = [_row(lever, advice) for lever in helping]
    others = [(lever.name, _why(lever)) for lever in advice.levers if not lever.helps]
    return rows, others


def settings_of(lever: LeverAnswer | SplitAnswer) -> str:
    """Return the flags that make a change."""
    return shlex.join([word for text in lever.sets for word in ("--set", text)])


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
        if advice.remark:
            yield literal(advice.remark, "yellow")
        yield pairs([(literal(label, "bold"), literal(text)) for label, text in summary(advice)])
        rows, others = lever_rows(advice)
        if rows:
            yield _table(rows, advice.at_batch_size, width)
        if others:
            lines = pairs([(literal(name), literal(why, "dim")) for name, why in others])
            yield Group(Text("What does not help", "bold"), Padding(lines, (0, 0, 0, 2)))
        if advice.cards:
            yield _cards(advice.cards)
        known = [("Accuracy:", advice.device.accuracy)] if advice.device.accuracy else []
        yield pairs([(Text(label, "yellow"), literal(text)) for label, text in [*known, *_notes(advice)]])
        if advice.best is not None:
            yield Group(
                Text("To use the best of them, add", "bold"),
                Padding(literal(settings_of(advice.best), "cyan"), (0, 0, 0, 2)),
            )


def _table(rows: Sequence[tuple[str, ...]], at: int, width: int) -> RenderableType:
    savings, with_rows = width >= _WITH_SAVINGS, width >= _WITH_ROWS
    table = ruled(
        names("change"),
        numbers("largest"),
        numbers("gain"),
        *([numbers(f"saves at {number(at)}")] if savings else []),
        *([names("from")] if with_rows else []),
        names("costs"),
    )
    for name, largest, gain, saves, row, costs in rows:
        cells = [name, largest, gain, *([saves] if savings else []), *([row] if with_rows else []), costs]
        table.add_row(*(literal(cell) for cell in cells))
    return Group(Text("What helps, each by itself", "bold"), table)


def _cards(cards: Sequence[CardAnswer]) -> RenderableType:
    table = ruled(names("card"), numbers("memory"), numbers("as it is"), numbers("at best"), names("with"))
    for card in cards:
        best = card.best
        table.add_row(
            literal(card.name),
            format_bytes(card.capacity_bytes),
            _size(card.max_batch_size),
            _size(best.max_batch_size) if best else "-",
            literal(best.name if best else "nothing helps"),
        )
    return Group(Text("The same on other cards (predicted)", "bold"), table)


def _row(lever: LeverAnswer, advice: Advice) -> tuple[str, ...]:
    saves = "-" if lever.saved_bytes is None else format_bytes(max(lever.saved_bytes, 0))
    source = CATEGORY_LABELS[lever.saved_from] if lever.saved_from else "-"
    gain = _gain(lever.max_batch_size, advice.max_batch_size)
    return lever.name, _size(lever.max_batch_size), gain, saves, source, _costs(lever)


def _costs(lever: LeverAnswer) -> str:
    """Return what a change costs; measured seconds before counted operations before words alone."""
    figures = ((lever.seconds, "step time, measured"), (lever.compute, "operations"))
    known = [f"{ratio - 1:+.0%} {what}" for ratio, what in figures if ratio is not None and abs(ratio - 1) >= 0.005]
    return "; ".join(filter(None, (*known[:1], lever.price))) or "nothing known"


def _why(lever: LeverAnswer) -> str:
    reached = f"{_size(lever.max_batch_size)}: " if lever.max_batch_size else ""
    return reached + one_line(lever.why, _REFUSAL_LIMIT)


def _gain(after: int | None, before: int | None) -> str:
    return f"x{after / before:.2f}" if after and before else ""


def _size(size: int | None) -> str:
    return "nothing fits" if size is None else number(size)


def _splits(advice: Advice) -> list[SplitAnswer]:
    return [split for split in (advice.fit, advice.effective) if split is not None]


def _split(split: SplitAnswer) -> str:
    if split.micro_batch_size is None:
        return f"cannot be done: {split.note}"
    parts = []
    if split.accumulate > 1:
        pieces = count(split.accumulate, "piece")
        flag = f"train.accumulate={split.accumulate}"
        parts.append(f"{pieces} of {number(split.micro_batch_size)}, gradients added up (--set {flag})")
    if split.sets:
        parts.append(f"{split.note} ({settings_of(split)})")
    elif split.note:
        parts.append(split.note)
    return "; ".join(parts)


def _notes(advice: Advice) -> list[tuple[str, str]]:
    return [("Note:", note) for note in advice.notes]
