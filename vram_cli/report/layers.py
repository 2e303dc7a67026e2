"""The model's layers as a tree: what each returns, its parameters and their bytes; and the totals below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from vram_cli.records import LayerFacts, ModelFacts
from vram_cli.report.tables import names, numbers, ruled
from vram_cli.report.words import count, literal, number
from vram_cli.units import format_bytes

_WITH_CLASS = 100
"""Columns from which the class has one of its own."""


class Row(NamedTuple):
    """A layer, or what a layer holds beside its parts."""

    level: int
    name: str
    kind: str
    output: str
    parameters: int
    bytes: int
    trained: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """Output, parameters and bytes, with a dash for nothing."""
        sizes = (number(self.parameters), format_bytes(self.bytes)) if self.parameters else ("-", "-")
        return self.output or "-", *sizes


def layers_table(model: ModelFacts, width: int, depth: int) -> Table:
    """Return the layers down to a depth, for a console of `width` columns.

    A layer's row has all that is in it. Where its parts are shown, what it holds beside them has a row of its own, so
    that parameters one level below a row add up to it, unless layers share some.
    """
    wide, frozen = width >= _WITH_CLASS, model.trainable_parameters < model.parameters
    columns = [names("layer"), *([names("class")] if wide else []), numbers("output"), numbers("parameters")]
    table = ruled(*columns, numbers("bytes"), *([names("trained")] if frozen else []))
    for row in layer_rows(model.layers, depth):
        indent = "  " * row.level
        label = [indent + (row.name or "model"), row.kind] if wide else [indent + _short(row)]
        table.add_row(*map(_unfolded, label), *row.cells, *([row.trained or "-"] if frozen else []))
    return table


def layer_rows(layers: Sequence[LayerFacts], depth: int) -> Iterator[Row]:
    """Return the rows down to a depth, in order; `layers` has each layer before those in it."""
    inside: dict[str, list[LayerFacts]] = {layer.path: [] for layer in layers}
    for layer in layers[1:]:
        inside[layer.path.rpartition(".")[0]].append(layer)

    def walk(layer: LayerFacts) -> Iterator[Row]:
        yield _row(layer)
        parts = inside[layer.path] if layer.depth < depth else []
        for part in parts:
            yield from walk(part)
        own = layer.parameters - sum(part.parameters for part in parts)
        if parts and own > 0:
            trained = layer.trainable_parameters - sum(part.trainable_parameters for part in parts)
            size = layer.bytes - sum(part.bytes for part in parts)
            yield Row(layer.depth + 1, "(itself)", "", "", own, size, _trained(trained, own))

    return walk(layers[0])


def totals(model: ModelFacts, depth: int) -> list[tuple[str, str]]:
    """Return label and text of each line below the table."""
    hidden = sum(layer.depth > depth for layer in model.layers)
    deepest = max(layer.depth for layer in model.layers)
    lines = [
        ("parameters", _parameters(model)),
        ("bytes", _sizes((found.dtype, found.parameter_bytes) for found in model.dtypes)),
        ("buffers", _sizes((found.dtype, found.buffer_bytes) for found in model.dtypes)),
        ("not shown", f"{count(hidden, 'layer')} below depth {depth}; --depth {deepest} shows all" if hidden else ""),
        *(("note", note) for note in model.notes),
    ]
    return [(label, text) for label, text in lines if text]


def shape(sizes: Sequence[int]) -> str:
    """Return "64x32x32", or "scalar" for a single number."""
    return "x".join(str(size) for size in sizes) or "scalar"


def _row(layer: LayerFacts) -> Row:
    return Row(
        layer.depth,
        layer.path.rpartition(".")[2],
        layer.kind if layer.calls < 2 else f"{layer.kind}, {layer.calls} calls",
        "" if layer.output_shape is None else shape(layer.output_shape),
        layer.parameters,
        layer.bytes,
        layer.trained,
    )


def _unfolded(label: str) -> Text:
    text = literal(label)
    text.no_wrap = True  # of the cell: a column that wraps nothing does not give way to numbers either
    return text


def _short(row: Row) -> str:
    return f"{row.name} ({row.kind})" if row.name and row.kind else row.name or row.kind


def _trained(trainable: int, parameters: int) -> str:
    return "yes" if trainable == parameters else "partly" if trainable else "no"


def _parameters(model: ModelFacts) -> str:
    frozen = model.parameters - model.trainable_parameters
    if not frozen:
        return f"{number(model.parameters)}, all of them trained"
    return f"{number(model.parameters)}: {number(model.trainable_parameters)} trained, {number(frozen)} frozen"


def _sizes(sizes: Iterator[tuple[str, int]]) -> str:
    return ", ".join(f"{format_bytes(size)} {dtype}" for dtype, size in sizes if size)
