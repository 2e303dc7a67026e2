"""A result as a picture, for papers and issues; needs matplotlib, the extra called `plot`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vram_cli.errors import ConfigError, MachineError
from vram_cli.records import Breakdown, Measurement, Result, Timeline
from vram_cli.report.pace_plot import draw_paces
from vram_cli.report.palette import COLOURS
from vram_cli.report.saved import check_writable
from vram_cli.report.tables import breakdown_title, trials_title
from vram_cli.report.throughput import PACE_CHART_TITLE
from vram_cli.report.timeline import INKS, timeline_title
from vram_cli.report.words import CATEGORY_LABELS
from vram_cli.units import GIB, MIB, format_bytes

SUFFIXES = (".png", ".svg", ".pdf")

_FITS, _FAILS = "#0a5cbf", "#b42318"


def check_plot(path: Path, *, force: bool = False) -> None:
    """Check that `save_plot` would work, so that nobody learns after a long run that it does not.

    Raises:
        ConfigError: the file's name does not end as a picture's, or it cannot be written.
        MachineError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: not a kind of picture that vram draws", f"let it end in {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise MachineError(
            f"{path}: drawing a picture needs matplotlib, which is not installed",
            "pip install 'vram-cli[plot]', or --report FILE, whose charts need nothing",
        )
    check_writable(path, force=force)


def save_plot(result: Result, path: Path) -> None:
    """Draw a result into a file whose suffix says the format; an existing one is replaced.

    The trials of a search, or the timeline of a breakdown; above it the breakdown, and below it how fast each size
    trains, where there are any.

    Raises:
        ConfigError, MachineError: as `check_plot` does.
        ValueError: it is a breakdown without a timeline.
    """
    check_plot(path, force=True)
    # Without pyplot: it would look for a screen, and keep the figure for ever.
    from matplotlib.figure import Figure

    made, paces = result.breakdown, result.throughput
    heights = [*([1] if made else []), 7, *([6] if paces else [])]
    figure = Figure(figsize=(9, 5 + bool(made) + 4 * bool(paces)), layout="constrained")
    rows = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    if made:
        above = rows.pop(0)
        _draw_breakdown(above, made)
        _title(above, breakdown_title(made, result.run.device))
    axes = rows.pop(0)
    if result.command == "find-batch":
        _draw_trials(axes, result)
        _title(axes, trials_title(result.run.device))
        if paces:
            draw_paces(rows[0], axes, paces)
            _title(rows[0], PACE_CHART_TITLE)
    elif made is None or made.timeline is None:
        raise ValueError("a breakdown without a timeline")
    else:
        _draw_timeline(axes, made.timeline)
        _title(axes, timeline_title(made, result.run.device), pad=18)
    figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize="small")
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}", "choose a folder that you may write to"
        ) from None


def _draw_breakdown(axes: Any, breakdown: Breakdown) -> None:
    start = 0
    for row in breakdown.rows:
        colour, label = COLOURS.get(row.category, "none"), f"{CATEGORY_LABELS[row.category]} {format_bytes(row.bytes)}"
        axes.barh(0, row.bytes, left=start, color=colour, edgecolor="black", linewidth=0.4, label=label)
        start += row.bytes
    axes.set(xlim=(0, max(start, 1)), yticks=[], xticks=[])


def _draw_trials(axes: Any, result: Result) -> None:
    drawn = [trial for trial in result.trials if trial.peak_reserved_bytes]
    unit, factor = _unit(result.run.device.capacity_bytes)

    def scatter(trials: list[Measurement], label: str, **style: Any) -> None:
        if trials:
            peaks = [trial.peak_reserved_bytes / factor for trial in trials]
            axes.scatter([trial.batch_size for trial in trials], peaks, label=label, zorder=3, clip_on=False, **style)

    scatter([trial for trial in drawn if trial.fits and not trial.thrashing], "fits", color=_FITS)
    scatter([trial for trial in drawn if trial.thrashing], "fits, but thrashes", facecolors="none", edgecolors=_FITS)
    scatter([trial for trial in drawn if not trial.fits], "did not fit", color=_FAILS, marker="x")
    capacity = result.run.device.capacity_bytes
    axes.axhline(capacity / factor, color=_FAILS, linestyle="--", label=f"{format_bytes(capacity)} in all")
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="batch size", ylabel=f"peak reserved, {unit}")
    axes.grid(alpha=0.3)


def _draw_timeline(axes: Any, timeline: Timeline) -> None:
    unit, factor = _unit(timeline.peak.bytes)
    events = [point.event for point in timeline.points]
    heights = [[point.by_category.get(category, 0) / factor for point in timeline.points] for category in INKS]
    axes.stackplot(events, heights, colors=[COLOURS[category] for category in INKS], step="post")
    for before, point in zip(timeline.points, timeline.points[1:], strict=False):
        if point.phase is not before.phase:
            axes.axvline(point.event, color="black", linewidth=0.6)
    for phase in dict.fromkeys(point.phase for point in timeline.points):
        first = next(point.event for point in timeline.points if point.phase is phase)
        axes.annotate(phase.value, (first, 1.01), xycoords=("data", "axes fraction"), fontsize="small")
    axes.set(
        xlim=(0, max(timeline.events, 1)), ylim=(0, None), xlabel="allocations and frees", ylabel=f"in tensors, {unit}"
    )


def _title(axes: Any, text: str, pad: float | None = None) -> None:
    axes.set_title(text, loc="left", fontsize="medium", pad=pad, parse_math=False)


def _unit(highest: int) -> tuple[str, int]:
    return ("GiB", GIB) if highest >= GIB else ("MiB", MIB)
