"""Every chart, drawn with matplotlib: saved as PNG, SVG or PDF by `--plot`, and inlined as SVG into the HTML report.

matplotlib rather than SVG of our own: one drawing serves both, PNG from our own SVG would need a rasteriser, and
matplotlib's ticks, log axes and legends are those that readers of papers know. It is an optional extra
(`vram-cli[plot]`): without it `--plot` is refused and a report has no charts.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vram_cli.errors import ConfigError, MachineError
from vram_cli.files import check_writable, write_file
from vram_cli.records import Breakdown, Device, Measurement, Throughput, Timeline
from vram_cli.report.palette import COLOURS, STACK
from vram_cli.report.words import CATEGORY_LABELS, number, per_second
from vram_cli.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
MISSING = "Charts need matplotlib, which is not installed: pip install 'vram-cli[plot]'"

_INK = "#010203"
"""Text and axes. In a page this very colour becomes `currentColor`, so that charts follow the light or dark theme."""
_GRID, _FITS, _FAILS, _SPEED, _KNEE = "#808080", "#2a7fde", "#d9483b", "#2e8b57", "#c0559b"
"""Colours with a contrast of at least 3 to 1 on the white and on the dark background of a page."""


def are_available() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def check_plot(path: Path, *, force: bool = False) -> None:
    """Check that a picture can be written there, before a long run rather than after it.

    Raises:
        ConfigError: the file's name does not end in a suffix of `SUFFIXES`, or it cannot be written.
        MachineError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--plot {path}: unknown picture format", f"choose a name that ends in {', '.join(SUFFIXES)}")
    if not are_available():
        raise MachineError(
            f"--plot {path}: drawing needs matplotlib, which is not installed", "pip install 'vram-cli[plot]'"
        )
    check_writable(path, force=force)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the suffix names; an existing file is replaced.

    Raises:
        ConfigError, MachineError: as `check_plot` does.
    """
    check_plot(path, force=True)
    write_file(_rendered(figure, path.suffix[1:].lower(), dpi=150), path, force=True)


def inline_svg(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` element for a page, its ids made unique by `name`."""
    from matplotlib import rc_context

    for axes in figure.axes:
        axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        svg = _rendered(figure, "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # HTML knows the namespaces itself; a fixed size would not shrink with the page.
    svg = re.sub(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"(?=[^<]*viewBox)', "", svg, count=5)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return re.sub(r"\n\s*", "\n", svg.replace(_INK, "currentColor")).rstrip()


def new_figure(width: float = 9, height: float = 4) -> Figure:
    """Return an empty figure of that many inches."""
    # Without pyplot, which would look for a screen and keep the figure alive.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def style_axes(axes: Axes, title: str = "", *, grid: bool = True) -> None:
    """Give axes the looks of all charts: a title on the left, and ink that follows the theme of a page."""
    if title:
        axes.set_title(title, loc="left", fontsize="medium", color=_INK, parse_math=False, pad=18 if not grid else None)
    if grid:
        axes.grid(color=_GRID, alpha=0.3)
    axes.tick_params(which="both", color=_INK, labelcolor=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label):
        text.set_color(_INK)
    if (legend := axes.get_legend()) is not None:
        style_legend(legend)


def style_legend(legend: Any) -> None:
    """Give a legend the ink of the axes."""
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color(_INK)


def timeline_figure(timeline: Timeline) -> Figure:
    """Draw memory over a step, one area per category."""
    figure = new_figure()
    axes = figure.subplots()
    draw_timeline(axes, timeline)
    style_axes(axes, grid=False)
    _add_legend(figure)
    return figure


def trials_figure(trials: Sequence[Measurement], device: Device) -> Figure:
    """Draw the peak memory of each trial over its batch size, with the device's memory as a line."""
    figure = new_figure()
    axes = figure.subplots()
    draw_trials(axes, trials, device)
    style_axes(axes)
    _add_legend(figure)
    return figure


def throughput_figure(throughput: Throughput) -> Figure:
    """Draw samples per second over the batch size."""
    figure = new_figure()
    axes = figure.subplots()
    draw_throughput(axes, throughput)
    style_axes(axes)
    _add_legend(figure)
    return figure


def search_picture(
    trials: Sequence[Measurement],
    device: Device,
    titles: tuple[str, str, str],
    breakdown: Breakdown | None,
    throughput: Throughput | None,
) -> Figure:
    """Draw a search for `--plot`: breakdown, trials and speed one below the other, as far as they are known."""
    heights = [*([1] if breakdown else []), 7, *([6] if throughput else [])]
    figure = new_figure(9, 5 + bool(breakdown) + 4 * bool(throughput))
    rows = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    if breakdown:
        _draw_breakdown(rows.pop(0), breakdown, titles[0])
    draw_trials(rows[0], trials, device)
    style_axes(rows[0], titles[1])
    if throughput:
        draw_throughput(rows[1], throughput)
        _share_sizes(rows[0], rows[1], throughput)
        style_axes(rows[1], titles[2])
    _add_legend(figure)
    return figure


def breakdown_picture(breakdown: Breakdown, timeline: Timeline, titles: tuple[str, str]) -> Figure:
    """Draw a breakdown for `--plot`: the rows as a bar, and memory over the step."""
    figure = new_figure(9, 6)
    bar, axes = figure.subplots(2, height_ratios=[1, 7])
    _draw_breakdown(bar, breakdown, titles[0])
    draw_timeline(axes, timeline)
    style_axes(axes, titles[1], grid=False)
    _add_legend(figure)
    return figure


def draw_timeline(axes: Axes, timeline: Timeline) -> None:
    """Draw memory over a step into axes."""
    unit, factor = _unit(timeline.peak.bytes)
    shown = [category for category in STACK if any(category in point.by_category for point in timeline.points)]
    # Each moment lasts until the next, the last one to the end.
    points = (*timeline.points, timeline.points[-1])
    events = [*(point.event for point in timeline.points), timeline.events + 1]
    heights = [[point.by_category.get(category, 0) / factor for point in points] for category in shown]
    labels = [CATEGORY_LABELS[category] for category in shown]
    axes.stackplot(events, heights, colors=[COLOURS[category] for category in shown], labels=labels, step="post")
    peak = timeline.peak
    axes.plot(peak.event + 0.5, peak.bytes / factor, "o", color=_INK, markersize=4, clip_on=False)
    axes.annotate(
        f"{format_bytes(peak.bytes)} ", (peak.event + 0.5, peak.bytes / factor), xytext=(0, 6),
        textcoords="offset points", fontsize="small", ha="left" if peak.event < timeline.events / 2 else "right",
    )  # fmt: skip
    first = {point.phase: point.event for point in reversed(timeline.points)}
    for phase, event in first.items():
        axes.axvline(event, color=_INK, linewidth=0.6)
        side = "left" if event < 0.85 * timeline.events else "right"
        axes.annotate(phase.value, (event, 1.01), xycoords=("data", "axes fraction"), fontsize="small", ha=side)
    top = max(1.12 * peak.bytes / factor, 1e-9)
    axes.set(xlim=(0, timeline.events + 1), ylim=(0, top), xlabel="allocations and frees", ylabel=f"in tensors, {unit}")


def draw_trials(axes: Axes, trials: Sequence[Measurement], device: Device) -> None:
    """Draw the peak memory of each trial into axes. Both axes begin at zero: memory grows along a line."""
    drawn = [trial for trial in trials if trial.peak_reserved_bytes]
    unit, factor = _unit(device.capacity_bytes)

    def scatter(group: list[Measurement], label: str, **style: Any) -> None:
        if group:
            sizes, peaks = zip(
                *((trial.batch_size, trial.peak_reserved_bytes / factor) for trial in group), strict=True
            )
            axes.scatter(sizes, peaks, label=label, zorder=3, clip_on=False, **style)

    failed = [trial for trial in drawn if not trial.fits]
    scatter([trial for trial in drawn if trial.fits and not trial.thrashing], "fits", color=_FITS)
    scatter([trial for trial in drawn if trial.thrashing], "fits, but thrashes", facecolors="none", edgecolors=_FITS)
    scatter(failed, "did not fit", color=_FAILS, marker="x")
    capacity = device.capacity_bytes
    name = "memory" if device.memory_limit_bytes is None else "memory limit"
    axes.axhline(capacity / factor, color=_FAILS, linestyle="--", label=f"{name}: {format_bytes(capacity)}")
    top = 1.08 * max([capacity, *(trial.peak_reserved_bytes for trial in drawn)]) / factor
    for trial in failed:
        if trial.requested_bytes is not None and trial.held_bytes is not None:
            # If free blocks are too small for a request, tensors alone would have fitted: not below the limit.
            wanted = max(trial.held_bytes + trial.requested_bytes, capacity) / factor
            axes.vlines(trial.batch_size, trial.peak_reserved_bytes / factor, min(wanted, top), colors=_FAILS)
    axes.set(xlim=(0, None), ylim=(0, max(top, 1e-9)), xlabel="batch size", ylabel=f"peak reserved, {unit}")


def draw_throughput(axes: Axes, throughput: Throughput) -> None:
    """Draw samples per second into axes, over batch sizes on an axis on which doubling is a step."""
    points = throughput.points
    sizes, speeds = [point.batch_size for point in points], [point.samples_per_second for point in points]
    spread = [
        [point.samples_per_second - point.q25 for point in points],
        [point.q75 - point.samples_per_second for point in points],
    ]
    axes.errorbar(
        sizes, speeds, spread, color=_SPEED, marker="o", markersize=4, capsize=3,
        label="median step; half of all steps lie within the bar",
    )  # fmt: skip
    for name, size, colour in _marks(throughput):
        label = f"{name}: {number(size)} ({per_second(throughput.at(size).samples_per_second)})"
        axes.axvline(size, color=colour, linestyle=":", label=label)
    axes.set(ylim=(0, None), xlabel="batch size", ylabel="samples/s")
    axes.yaxis.set_major_formatter(lambda speed, _: f"{speed:,g}")
    _use_doubling_scale(axes, sizes[0], sizes[-1])


def _share_sizes(memory: Axes, speed: Axes, throughput: Throughput) -> None:
    right = max(memory.get_xlim()[1], throughput.points[-1].batch_size)
    for _, size, colour in _marks(throughput):
        memory.axvline(size, color=colour, linestyle=":")
    for axes in (memory, speed):
        _use_doubling_scale(axes, throughput.points[0].batch_size, right)


def _use_doubling_scale(axes: Axes, smallest: float, largest: float) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda size, _: number(round(size)))
    axes.set_xlim(smallest / 1.2, largest * 1.2)


def _marks(throughput: Throughput) -> tuple[tuple[str, int, str], ...]:
    return ("fastest", throughput.fastest_batch_size, _SPEED), ("knee", throughput.knee_batch_size, _KNEE)


def _draw_breakdown(axes: Axes, breakdown: Breakdown, title: str) -> None:
    start = 0
    for row in breakdown.rows:
        colour, label = COLOURS.get(row.category, "none"), f"{CATEGORY_LABELS[row.category]} {format_bytes(row.bytes)}"
        axes.barh(0, row.bytes, left=start, color=colour, edgecolor=_INK, linewidth=0.4, label=label)
        start += row.bytes
    axes.set(xlim=(0, max(start, 1)), yticks=[], xticks=[])
    style_axes(axes, title)


def _add_legend(figure: Figure) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if not any(label == known or known.startswith(f"{label} ") for known in handles):
                handles[label] = handle
    style_legend(
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower left", ncols=3, frameon=False, fontsize="small"
        )
    )


def _rendered(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as a glyph that the font lacks: no concern of the user's
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None, **options)
    return buffer.getvalue()


def _unit(highest: int) -> tuple[str, int]:
    return ("GiB", GIB) if highest >= GIB else ("MiB", MIB)
