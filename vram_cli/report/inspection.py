"""What a config trains, and on what: data, some samples of it, and the model's layers; as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table

from vram_cli.records import DataFacts, Inspection, ModelFacts, StoredFacts
from vram_cli.report.layers import layers_table, shape, totals
from vram_cli.report.preview import Preview
from vram_cli.report.tables import names, numbers, pairs, ruled
from vram_cli.report.words import literal, number, one_line, setting
from vram_cli.units import format_bytes

_INDENT = 2


def inspection_as_json(inspection: Inspection) -> str:
    """Return all but the samples as one JSON object, in ASCII; it has the layers of every depth."""
    document = {"schema_version": inspection.schema_version} | asdict(inspection)
    del document["samples"]
    return json.dumps(document, indent=2)


class InspectionInFull:
    """The text of an inspection, to be drawn as wide as the console is.

    Args:
        inspection: what was found.
        depth: how many levels of the model's layers are shown.
        preview: whether some samples are shown.
    """

    def __init__(self, inspection: Inspection, depth: int, *, preview: bool) -> None:
        self._inspection, self._depth, self._preview = inspection, depth, preview

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the sections, with an empty line between two."""
        for index, section in enumerate(self._sections(options.max_width)):
            if index:
                yield Segment.line()
            yield section

    def _sections(self, width: int) -> Iterator[RenderableType]:
        data, model = self._inspection.data, self._inspection.model
        yield _titled(_data_title(data), _lines(data_lines(self._inspection)))
        yield _tensors(data)
        if self._preview and self._inspection.samples:
            yield Preview(self._inspection.samples, [found.name for found in data.classes])
        yield _titled(_model_title(model), layers_table(model, width, self._depth))
        yield _lines(totals(model, self._depth))


def data_lines(inspection: Inspection) -> list[tuple[str, str]]:
    """Return label and text of each line on the data; lines about which nothing is known are left out."""
    data = inspection.data
    real = data.info.source == "files"
    missing = data.stored is not None and not real and setting(inspection.config, "data", "source") != "synthetic"
    lines = [
        ("source", data.info.detail),
        ("files", "not here; --download gets them" if missing else ""),
        ("samples", "" if data.info.num_samples is None else number(data.info.num_samples)),
        ("images", f"{data.mode}, {shape(data.info.tensors[0].shape)}" if data.mode else ""),
        *(_stored(data.stored, real=real) if data.stored else ()),
        ("classes", _classes(data)),
    ]
    return [(label, text) for label, text in lines if text]


def _stored(stored: StoredFacts, *, real: bool) -> Iterator[tuple[str, str]]:
    of_what = "" if real else " in the real files"
    yield (
        "stored",
        f"{stored.dtype}, {format_bytes(stored.sample_bytes)} a sample, values {stored.low} to {stored.high}{of_what}",
    )
    mean, std = (", ".join(f"{value:g}" for value in dict.fromkeys(values)) for values in (stored.mean, stored.std))
    values = f"values {stored.trained_low:.3g} to {stored.trained_high:.3g}{of_what}"
    yield "normalised", f"{values}: scaled to 0..1, less {mean}, divided by {std}"


def _classes(data: DataFacts) -> str:
    if not data.classes:
        return number(data.info.classes) if data.info.classes else ""
    counts = {found.count for found in data.classes}
    many, listed = number(len(data.classes)), ", ".join(found.name for found in data.classes)
    if counts == {None}:
        return f"{many}: {listed}"
    if len(counts) == 1:
        return f"{many} of {number(counts.pop() or 0)} each: {listed}"
    return f"{many}: " + ", ".join(f"{found.name} ({number(found.count or 0)})" for found in data.classes)


def _tensors(data: DataFacts) -> Table:
    total = (format_bytes(data.sample_bytes), format_bytes(data.batch_bytes))
    table = ruled(
        names("tensor", "total"),
        numbers("shape"),
        names("dtype"),
        numbers("a sample", total[0]),
        numbers(f"a batch of {number(data.batch_size)}", total[1]),
    )
    table.show_footer = len(data.tensors) > 1
    for tensor in data.tensors:
        sizes = format_bytes(tensor.sample_bytes), format_bytes(tensor.batch_bytes)
        table.add_row(literal(one_line(tensor.info.name)), shape(tensor.info.shape), tensor.info.dtype, *sizes)
    return table


def _data_title(data: DataFacts) -> str:
    info = data.info
    return f"Data: {info.name}" if info.name == info.source else f"Data: {info.name}, {info.source}"


def _model_title(model: ModelFacts) -> str:
    outputs = f", outputs for a batch of {number(model.batch_size)}" if model.batch_size else ""
    return f"Model: {model.name}{outputs}"


def _titled(title: str, drawing: RenderableType) -> RenderableType:
    return Group(literal(title, "bold"), drawing)


def _lines(lines: list[tuple[str, str]]) -> RenderableType:
    drawn = pairs([(literal(label, "dim"), literal(text)) for label, text in lines])
    return Padding(drawn, (0, 0, 0, _INDENT))
