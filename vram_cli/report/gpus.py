"""The catalogue of GPUs as a table, one card of it in full with the sources of its figures, and both as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment

from vram_cli.hardware.gpus import Figure, Gpu
from vram_cli.report.tables import names, numbers, pairs, ruled
from vram_cli.report.words import count, literal, number
from vram_cli.units import format_bytes, format_exact

_WITH_ARCHITECTURE = 80
_WITH_PRODUCT = 116
_LEGEND = (
    ("~", "assumed, not measured; `vram gpus NAME` shows where each figure comes from"),
    ("memory", "what the driver reports to programs, less than what is sold"),
    ("context", "what a training process takes outside PyTorch's allocator"),
)


def gpus_as_json(cards: Sequence[Gpu]) -> str:
    """Return the cards with all figures and their sources as one JSON object; sizes are in bytes."""
    return json.dumps({"gpus": [card.model_dump(mode="json") for card in cards]}, indent=2)


def gpus_table(cards: Sequence[Gpu]) -> RenderableType:
    """Return a row a card; a wide console has room for architecture and product name."""
    return _Catalogue(cards)


def gpu_in_full(card: Gpu, related: Sequence[Gpu] = ()) -> RenderableType:
    """Return one card with the source of each figure, and the names of others that a reader may have meant."""
    lines = [
        ("memory", _sourced(card.memory)),
        ("context", _sourced(card.context)),
        ("compute capability", f"{_capability(card)} ({card.architecture})"),
        ("multiprocessors", number(card.multiprocessors)),
        ("bandwidth", f"{card.bandwidth_gb_s:,.0f} GB/s"),
        ("", card.specs),
        ("sold as", f"{card.product}, {card.label}"),
        ("also called", ", ".join(card.aliases)),
        ("see also", ", ".join(other.name for other in related if other is not card)),
    ]
    drawn = pairs([(literal(name, "dim"), literal(text)) for name, text in lines if text])
    return Group(literal(card.name, "bold"), Padding(drawn, (0, 0, 0, 2)))


class _Catalogue:
    """How wide it is is known only when it is drawn."""

    def __init__(self, cards: Sequence[Gpu]) -> None:
        self._cards = cards

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the cards, and what the columns mean."""
        width = options.max_width
        wide = [names("architecture")] if width >= _WITH_ARCHITECTURE else []
        wider = [names("product")] if width >= _WITH_PRODUCT else []
        sizes = (numbers("memory"), numbers("context"), numbers("compute"), numbers("GB/s"))
        table = ruled(numbers("name"), *wider, *wide, *sizes)
        table.columns[0].justify = "left"  # a name is typed after --gpu: as whole as a number
        for card in self._cards:
            words = [card.product][: len(wider)] + [card.architecture][: len(wide)]
            table.add_row(card.name, *map(literal, words), *_figures(card))
        yield literal(count(len(self._cards), "GPU"), "bold")
        yield table
        yield Segment.line()
        yield pairs([(literal(mark, "dim"), literal(meaning, "dim")) for mark, meaning in _LEGEND])


def _figures(card: Gpu) -> list[str]:
    return [marked(card.memory), marked(card.context), _capability(card), f"{card.bandwidth_gb_s:,.0f}"]


def marked(figure: Figure) -> str:
    """Return a figure's size, with a "~" before it where it is assumed."""
    return ("~" if figure.status == "assumed" else "") + format_bytes(figure.bytes)


def _sourced(figure: Figure) -> str:
    size = f"{format_bytes(figure.bytes)}, {format_exact(figure.bytes)} bytes, {figure.status}"
    return f"{size}\n{figure.source}"


def _capability(card: Gpu) -> str:
    return "-" if card.compute_capability is None else "{}.{}".format(*card.compute_capability)
