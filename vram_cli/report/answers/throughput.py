"""How fast each batch size trains, and the memory that it takes."""

from __future__ import annotations

from functools import partial

from vram_cli.records import FindBatchResult, Throughput, ThroughputPoint
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.words import count, number, per_second, step_time, three_digits
from vram_cli.units import format_bytes

CHART_TITLE = "Samples per second by batch size (measured)"

_NOTE = (
    "Samples/s are those of the median step. Half of the steps lie within the spread, and a difference within it is "
    "noise. Warm-up and data loading are not included."
)


def throughput_section(result: FindBatchResult, throughput: Throughput) -> doc.Details:
    """Return the sizes that were timed, with a chart on pages."""
    columns = (
        doc.Column("batch size"),
        doc.Column("samples/s"),
        doc.Column("spread"),
        doc.Column("step", min_width=80),
        doc.Column("steps"),
        doc.Column("peak"),
        doc.Column("", "name"),
    )
    rows = tuple(_row(result, throughput, point) for point in throughput.paces)
    description = "; ".join(f"{cells.cells[0]}: {cells.cells[1]} samples/s" for cells in rows)
    chart = doc.Chart("throughput", CHART_TITLE, description, partial(charts.throughput_figure, throughput))
    table = doc.Table("", columns, rows, caption=_NOTE)
    return doc.Details("Speed and memory by batch size (measured)", (chart, table))


def fastest_words(throughput: Throughput) -> str:
    """Return the fastest size, and the sizes within its spread."""
    point = throughput.at(throughput.fastest_batch_size)
    others = [number(size) for size in throughput.as_fast]
    noise = f"; {', '.join(others)} within its spread" if others else ""
    return f"{number(point.batch_size)} ({per_second(point.samples_per_second)}{noise})"


def knee_words(throughput: Throughput) -> str:
    """Return the knee and its definition."""
    point = throughput.at(throughput.knee_batch_size)
    within = f"smallest size within {100 * throughput.within:g} % of the fastest"
    return f"{number(point.batch_size)} ({per_second(point.samples_per_second)}; {within})"


def timed_words(throughput: Throughput) -> str:
    """Return how many steps the figures are based on."""
    steps = [point.steps for point in throughput.paces]
    many = f"{number(min(steps))} to {number(max(steps))}" if min(steps) < max(steps) else number(steps[0])
    some = f"{len(steps)} of " if len(steps) < throughput.sizes else ""
    return f"{some}{count(throughput.sizes, 'size')}, {many} steps each after warm-up, with no memory tracking"


def _row(result: FindBatchResult, throughput: Throughput, point: ThroughputPoint) -> doc.Row:
    median = point.samples_per_second
    peaks = (trial.peak_reserved_bytes for trial in result.trials if trial.batch_size == point.batch_size)
    peak, role = max(peaks, default=0), _role(throughput, point.batch_size)
    cells = (
        number(point.batch_size),
        three_digits(median),
        f"-{100 * (1 - point.low / median):.1f} +{100 * (point.high / median - 1):.1f} %",
        step_time(point.step_seconds),
        number(point.steps),
        format_bytes(peak) if peak else "-",
        role,
    )
    return doc.Row(cells, style="bold" if role else "")


def _role(throughput: Throughput, batch_size: int) -> str:
    """Return "fastest", "knee", "as fast", or "" for other sizes."""
    words = ["fastest"] if batch_size == throughput.fastest_batch_size else []
    words += ["knee"] if batch_size == throughput.knee_batch_size else []
    words += ["as fast"] if not words and batch_size in throughput.as_fast else []
    return ", ".join(words)
