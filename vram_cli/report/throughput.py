"""How speed follows the batch size, as a table: with the memory that it takes, and with how far it can be told."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from vram_cli.records import Result, Throughput, ThroughputPoint
from vram_cli.report.tables import names, numbers, ruled
from vram_cli.report.words import count, number, per_second, step_time, three_digits
from vram_cli.units import format_bytes

PACE_HEADS = ("batch size", "samples/s", "spread", "step", "steps", "peak", "")
PACE_TITLE = "Speed and memory by batch size (measured)"
PACE_CHART_TITLE = "Samples per second by batch size (measured)"

PACE_NOTE = (
    "Samples/s are those of the median step; half of the steps lie within the spread, and a difference within it is "
    "noise. Warming up and loading data do not count."
)

_WIDE = 80


def pace_table(result: Result, throughput: Throughput, width: int) -> RenderableType:
    """Return the sizes that were timed for a console of `width` columns; below 80 without the time of a step."""
    shown = [index for index, head in enumerate(PACE_HEADS) if head != "step" or width >= _WIDE]
    table = ruled(*(numbers(PACE_HEADS[index]) if PACE_HEADS[index] else names("") for index in shown))
    for pace in throughput.points:
        cells = pace_cells(result, throughput, pace)
        table.add_row(*(cells[index] for index in shown), style="bold" if cells[-1] else "")
    return Group(Text(PACE_TITLE, "bold"), table, Text(PACE_NOTE, "dim"))


def pace_cells(result: Result, throughput: Throughput, pace: ThroughputPoint) -> tuple[str, ...]:
    """Return the cells below `PACE_HEADS`."""
    middle = pace.samples_per_second
    peak = max((trial.peak_reserved_bytes for trial in result.trials if trial.batch_size == pace.batch_size), default=0)
    return (
        number(pace.batch_size),
        three_digits(middle),
        f"-{100 * (1 - pace.q25 / middle):.1f} +{100 * (pace.q75 / middle - 1):.1f} %",
        step_time(pace.step_seconds),
        number(pace.steps),
        format_bytes(peak) if peak else "-",
        role(throughput, pace.batch_size),
    )


def role(throughput: Throughput, batch_size: int) -> str:
    """Return what a size is among those that were timed: "fastest", "knee", "as fast", or nothing of note."""
    words = ["fastest"] if batch_size == throughput.fastest_batch_size else []
    words += ["knee"] if batch_size == throughput.knee_batch_size else []
    words += ["as fast"] if not words and batch_size in throughput.tied_with_fastest else []
    return ", ".join(words)


def fastest_words(throughput: Throughput) -> str:
    """Return the fastest size and those that cannot be told from it."""
    pace = throughput.at(throughput.fastest_batch_size)
    others = [number(size) for size in throughput.tied_with_fastest]
    noise = f"; {', '.join(others)} within its spread" if others else ""
    return f"{number(pace.batch_size)} ({per_second(pace.samples_per_second)}{noise})"


def knee_words(throughput: Throughput) -> str:
    """Return the knee and what is meant by it."""
    pace = throughput.at(throughput.knee_batch_size)
    within = f"smallest timed within {100 * throughput.knee_tolerance:g} % of the fastest"
    return f"{number(pace.batch_size)} ({per_second(pace.samples_per_second)}; {within})"


def timed_words(throughput: Throughput) -> str:
    """Return how many steps stand behind the figures."""
    steps = [pace.steps for pace in throughput.points]
    many = f"{number(min(steps))} to {number(max(steps))}" if min(steps) < max(steps) else number(steps[0])
    some = f"{len(steps)} of " if len(steps) < throughput.sizes else ""
    return f"{some}{count(throughput.sizes, 'size')}, {many} steps each after warming up; nothing watched them"
