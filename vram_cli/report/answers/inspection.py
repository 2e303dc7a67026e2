"""The answer of `vram inspect` as a document: the data, some samples of it, and the model's layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vram_cli.module_paths import last_name, parent_path
from vram_cli.records import DataFacts, Inspection, LayerFacts, ModelFacts, StoredFacts
from vram_cli.report import document as doc
from vram_cli.report.answers.run_sections import config_section
from vram_cli.report.words import count, number, one_line
from vram_cli.units import format_bytes


def inspection_document(inspection: Inspection, *, depth: int = 3, preview: bool = False) -> doc.Document:
    """Return the answer of `vram inspect`.

    Args:
        inspection: the answer.
        depth: levels of the model's layers to show.
        preview: whether text shows sample images.
    """
    data, model = inspection.data, inspection.model
    images = preview and bool(inspection.samples)
    name = data.info.name if data.info.name == data.info.source else f"{data.info.name}, {data.info.source}"
    samples = "" if data.info.num_samples is None else f" ({count(data.info.num_samples, 'sample')})"
    outputs = f", outputs for a batch of {number(model.batch_size)}" if model.batch_size else ""
    parameters = count(model.parameters, "parameter")
    layers = (_layers_table(model, depth), doc.Pairs(_totals(model, depth)))
    versions = ", ".join(f"{package} {version}" for package, version in inspection.versions.items())
    return doc.Document(
        heading=(f"{inspection.config_name}:", f"{model.name} ({parameters}) on {data.info.name}{samples}"),
        context=f"vram {inspection.command} · {inspection.config_name}",
        blocks=(
            doc.Details(f"Data: {name}", (doc.Pairs(tuple(_data_lines(inspection))), _tensors(data))),
            *((doc.Samples(inspection.samples, tuple(facts.name for facts in data.classes)),) if images else ()),
            doc.Details(f"Model: {model.name}{outputs}", layers),
            config_section(inspection),
            doc.Details("Versions", (doc.Paragraph(versions),), formats=frozenset({"html"})),
        ),
    )


def _data_lines(inspection: Inspection) -> Iterator[doc.Line]:
    data = inspection.data
    has_files, section = data.info.source == "files", inspection.config.get("data")
    on_purpose = isinstance(section, dict) and section.get("source") == "synthetic"
    yield "source", data.info.detail
    if data.stored is not None and not has_files and not on_purpose:
        yield "files", "not found; --download fetches them"
    if data.info.num_samples is not None:
        yield "samples", number(data.info.num_samples)
    if data.mode:
        yield "images", f"{data.mode}, {shape(data.info.tensors[0].shape)}"
    if data.stored:
        yield from _stored(data.stored, has_files=has_files)
    if classes := _classes(data):
        yield "classes", classes


def _stored(stored: StoredFacts, *, has_files: bool) -> Iterator[doc.Line]:
    files = "" if has_files else " in the real files"
    size = f"{format_bytes(stored.sample_bytes)} per sample"
    yield "stored", f"{stored.dtype}, {size}, values {stored.low} to {stored.high}{files}"
    mean, std = (", ".join(f"{value:g}" for value in dict.fromkeys(values)) for values in (stored.mean, stored.std))
    values = f"values {stored.trained_low:.3g} to {stored.trained_high:.3g}{files}"
    yield "normalised", f"{values}: scaled to 0..1, minus {mean}, divided by {std}"


def _classes(data: DataFacts) -> str:
    if not data.classes:
        return number(data.info.classes) if data.info.classes else ""
    counts = {facts.count for facts in data.classes}
    many, listed = number(len(data.classes)), ", ".join(facts.name for facts in data.classes)
    if counts == {None}:
        return f"{many}: {listed}"
    if len(counts) == 1:
        return f"{many} with {number(counts.pop() or 0)} each: {listed}"
    return f"{many}: " + ", ".join(f"{facts.name} ({number(facts.count or 0)})" for facts in data.classes)


def _tensors(data: DataFacts) -> doc.Table:
    columns = (
        doc.Column("tensor", "name"), doc.Column("shape"), doc.Column("dtype", "words"), doc.Column("per sample"),
        doc.Column(f"per batch of {number(data.batch_size)}"),
    )  # fmt: skip
    rows = tuple(
        doc.Row(
            (
                one_line(tensor.info.name),
                shape(tensor.info.shape),
                tensor.info.dtype,
                format_bytes(tensor.sample_bytes),
                format_bytes(tensor.batch_bytes),
            )
        )
        for tensor in data.tensors
    )
    total = ("total", "", "", format_bytes(data.sample_bytes), format_bytes(data.batch_bytes))
    return doc.Table("", columns, rows, footer=total if len(data.tensors) > 1 else ())


def _layers_table(model: ModelFacts, depth: int) -> doc.Table:
    """Return the layers down to a depth.

    A layer's row includes its submodules. If those are shown, the parameters that the layer holds outside them have a
    row of their own, so that parameters one level below a row add up to it, unless layers share some.
    """
    frozen = model.trainable_parameters < model.parameters
    columns = (
        doc.Column("layer", "name"),
        doc.Column("output"),
        doc.Column("parameters"),
        doc.Column("bytes"),
        *((doc.Column("trained", "words"),) if frozen else ()),
    )
    rows = (row if frozen else doc.Row(row.cells[:-1], row.level) for row in layer_rows(model.layers, depth))
    return doc.Table("", columns, tuple(rows))


def layer_rows(layers: Sequence[LayerFacts], depth: int) -> Iterator[doc.Row]:
    """Return the rows down to a depth, in order; `layers` has each layer before its submodules."""
    inside: dict[str, list[LayerFacts]] = {layer.path: [] for layer in layers}
    for layer in layers[1:]:
        inside[parent_path(layer.path)].append(layer)

    def walk(layer: LayerFacts) -> Iterator[doc.Row]:
        yield _row(layer)
        parts = inside[layer.path] if layer.depth < depth else []
        for part in parts:
            yield from walk(part)
        rest = layer.parameters - sum(part.parameters for part in parts)
        if parts and rest > 0:
            trained = layer.trainable_parameters - sum(part.trainable_parameters for part in parts)
            size = layer.bytes - sum(part.bytes for part in parts)
            trained_words = "yes" if trained == rest else "partly" if trained else "no"
            yield doc.Row(("(itself)", "-", number(rest), format_bytes(size), trained_words), layer.depth + 1)

    return walk(layers[0])


def shape(sizes: Sequence[int]) -> str:
    """Return "64x32x32", or "scalar" for a single number."""
    return "x".join(str(size) for size in sizes) or "scalar"


def _row(layer: LayerFacts) -> doc.Row:
    kind = layer.kind if layer.calls < 2 else f"{layer.kind}, {layer.calls} calls"
    name = last_name(layer.path)
    sizes = (number(layer.parameters), format_bytes(layer.bytes)) if layer.parameters else ("-", "-")
    output = "-" if layer.output_shape is None else shape(layer.output_shape)
    return doc.Row((f"{name} ({kind})" if name else kind, output, *sizes, layer.trained or "-"), layer.depth)


def _totals(model: ModelFacts, depth: int) -> tuple[doc.Line, ...]:
    hidden = sum(layer.depth > depth for layer in model.layers)
    deepest = max(layer.depth for layer in model.layers)
    frozen = model.parameters - model.trainable_parameters
    split = f": {number(model.trainable_parameters)} trained, {number(frozen)} frozen" if frozen else ", all trained"
    lines = [
        ("parameters", f"{number(model.parameters)}{split}"),
        ("bytes", _sizes((facts.dtype, facts.parameter_bytes) for facts in model.dtypes)),
        ("buffers", _sizes((facts.dtype, facts.buffer_bytes) for facts in model.dtypes)),
        ("not shown", f"{count(hidden, 'layer')} below depth {depth}; --depth {deepest} shows all" if hidden else ""),
        *(("note", note) for note in model.notes),
    ]
    return tuple((label, text) for label, text in lines if text)


def _sizes(sizes: Iterator[tuple[str, int]]) -> str:
    return ", ".join(f"{format_bytes(size)} {dtype}" for dtype, size in sizes if size)
