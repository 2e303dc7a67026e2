"""The timeline as a picture, for papers and issues; needs matplotlib, the extra called `plot`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vram_cli.errors import ConfigError, MachineError
from vram_cli.report.saved import check_writable
from vram_cli.report.timeline import INKS
from vram_cli.report.words import CATEGORY_LABELS, number, origin
from vram_cli.results import Breakdown, Category, Device
from vram_cli.units import GIB, MIB

SUFFIXES = (".png", ".svg", ".pdf")

_COLOURS = {
    Category.PARAMETERS: "#4477aa",
    Category.OPTIMIZER_STATE: "#66ccee",
    Category.GRADIENTS: "#aa3377",
    Category.BATCH_DATA: "#bbbbbb",
    Category.ACTIVATIONS: "#ccbb44",
    Category.TEMPORARIES: "#ee6677",
}
"""Told apart by colour-blind readers too (Paul Tol's "bright" scheme)."""


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
            "pip install 'vram-cli[plot]', or draw it in the terminal: --timeline",
        )
    check_writable(path, force=force)


def save_plot(breakdown: Breakdown, device: Device, path: Path) -> None:
    """Draw the timeline into a file whose suffix says the format; an existing one is replaced.

    Raises:
        ConfigError, MachineError: as `check_plot` does.
    """
    check_plot(path, force=True)
    # Without pyplot: it would look for a screen, and keep the figure for ever.
    from matplotlib.figure import Figure

    timeline = breakdown.timeline
    if timeline is None:
        raise ValueError("a breakdown without a timeline")
    unit, factor = ("GiB", GIB) if timeline.peak.bytes >= GIB else ("MiB", MIB)
    events = [point.event for point in timeline.points]
    heights = [[point.by_category.get(category, 0) / factor for point in timeline.points] for category in INKS]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.stackplot(
        events,
        heights,
        labels=[CATEGORY_LABELS[category] for category in INKS],
        colors=[_COLOURS[category] for category in INKS],
        step="post",
    )
    for before, point in zip(timeline.points, timeline.points[1:], strict=False):
        if point.phase is not before.phase:
            axes.axvline(point.event, color="black", linewidth=0.6)
    for phase in dict.fromkeys(point.phase for point in timeline.points):
        first = next(point.event for point in timeline.points if point.phase is phase)
        axes.annotate(phase.value, (first, 1.01), xycoords=("data", "axes fraction"), fontsize="small")
    axes.set(
        xlim=(0, max(timeline.events, 1)), ylim=(0, None), xlabel="allocations and frees", ylabel=f"in tensors, {unit}"
    )
    axes.set_title(f"One training step at batch size {number(breakdown.batch_size)}, {origin(device)}", pad=18)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), reverse=True, frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}", "choose a folder that you may write to"
        ) from None
