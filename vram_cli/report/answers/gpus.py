"""The catalogue of GPUs as a document: a row per GPU, or one GPU in full with the source of each figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vram_cli.hardware.gpus import Figure, Gpu
from vram_cli.report import document as doc
from vram_cli.report.words import count, number
from vram_cli.units import format_bytes, format_exact

_LEGEND = (
    ("~", "assumed, not measured; `vram gpus NAME` shows the source of each figure"),
    ("memory", "as reported by the driver, less than the advertised size"),
    ("context", "memory of a training process outside PyTorch's allocator"),
)


def gpus_document(gpus: Sequence[Gpu]) -> doc.Document:
    """Return a row per GPU."""
    columns = (
        doc.Column("name", "key"),
        doc.Column("product", "name", min_width=116),
        doc.Column("architecture", "name", min_width=80),
        *map(doc.Column, ("memory", "context", "compute", "GB/s")),
    )
    rows = tuple(
        doc.Row(
            (
                gpu.name,
                gpu.product,
                gpu.architecture,
                marked(gpu.memory),
                marked(gpu.context),
                _capability(gpu),
                f"{gpu.bandwidth_gb_s:,.0f}",
            )
        )
        for gpu in gpus
    )
    return doc.Document(
        heading=(count(len(gpus), "GPU"), ""), blocks=(doc.Table("", columns, rows), doc.Pairs(_LEGEND))
    )


def gpu_document(gpu: Gpu, related: Sequence[Gpu] = ()) -> doc.Document:
    """Return one GPU with the source of each figure, and the names of others that match."""
    lines = (
        ("memory", _sourced(gpu.memory)),
        ("context", _sourced(gpu.context)),
        ("compute capability", f"{_capability(gpu)} ({gpu.architecture})"),
        ("multiprocessors", number(gpu.multiprocessors)),
        ("bandwidth", f"{gpu.bandwidth_gb_s:,.0f} GB/s"),
        ("", gpu.specs),
        *_device_properties(gpu),
        ("sold as", f"{gpu.product}, {gpu.label}"),
        ("also called", ", ".join(gpu.aliases)),
        ("see also", ", ".join(other.name for other in related if other is not gpu)),
    )
    shown = tuple((label, text) for label, text in lines if text)
    return doc.Document(heading=(gpu.name, ""), blocks=(doc.Pairs(shown),))


def _device_properties(gpu: Gpu) -> Iterator[tuple[str, str]]:
    """Yield the figures that libraries choose their algorithms by, and their sources."""
    if gpu.limits:
        blocks = count(gpu.limits.blocks_per_multiprocessor, "block")
        yield "per multiprocessor", f"{count(gpu.limits.threads_per_multiprocessor, 'thread')}, {blocks}"
        shared, most = gpu.limits.shared_memory_per_multiprocessor, gpu.limits.shared_memory_per_block_optin
        yield "shared memory", f"{format_bytes(shared)} per multiprocessor, at most {format_bytes(most)} per block"
        yield "", gpu.limits.source
    if gpu.properties:
        yield "L2 cache", format_bytes(gpu.properties.l2_bytes)
        yield "clock", f"{number(gpu.properties.clock_mhz)} MHz"
        memory = f"{number(gpu.properties.memory_clock_mhz)} MHz x {number(gpu.properties.bus_width_bits)} bit"
        yield "memory clock", f"{memory}\n{gpu.properties.source}"


def marked(figure: Figure) -> str:
    """Return a figure's size, with a "~" before it if it is assumed."""
    return ("~" if figure.status == "assumed" else "") + format_bytes(figure.bytes)


def _sourced(figure: Figure) -> str:
    size = f"{format_bytes(figure.bytes)}, {format_exact(figure.bytes)} bytes, {figure.status}"
    return f"{size}\n{figure.source}"


def _capability(gpu: Gpu) -> str:
    return "-" if gpu.compute_capability is None else "{}.{}".format(*gpu.compute_capability)
