"""A comparison as a picture: loss curves, accuracy, and noise against the batch size; needs matplotlib."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from vram_cli.compare.records import BatchSizeSummary, Comparison, MeanStd
from vram_cli.report.plot import check_plot, save_figure


def save_comparison_plot(comparison: Comparison, path: Path) -> None:
    """Draw a comparison into a file whose suffix says the format; an existing one is replaced.

    Raises:
        ConfigError, MachineError: as `check_plot` does.
    """
    check_plot(path, force=True)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    curves, validation, noise = figure.subplots(1, 3)
    _draw_curves(curves, comparison)
    _draw_validation(validation, comparison)
    _draw_noise(noise, comparison)
    for axes, title in ((curves, "Training loss"), (validation, "Validation"), (noise, "Noise of the training loss")):
        axes.set_title(f"{title} (measured)", loc="left", fontsize="medium", parse_math=False)
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _draw_curves(axes: Any, comparison: Comparison) -> None:
    for index, size in enumerate(comparison.sizes):
        runs = [run for run in comparison.runs if run.batch_size == size.batch_size and run.diverged_at is None]
        if not runs:
            continue
        # Stretches end at the same images in all runs of a size.
        points = [
            (stretch[0].samples, fmean(point.loss for point in stretch))
            for stretch in zip(*(run.curve for run in runs), strict=False)
        ]
        marker = "." if len(points) < 9 else ""
        axes.plot(*zip(*points, strict=True), label=_name(size), color=f"C{index}", marker=marker)
    axes.set(xlabel="samples seen", ylabel="loss", yscale="log")
    axes.legend(title="batch size", fontsize="small", title_fontsize="small", frameon=False)


def _draw_validation(axes: Any, comparison: Comparison) -> None:
    is_accuracy = any(size.accuracy for size in comparison.sizes)
    factor = 100 if is_accuracy else 1
    validated = [(size, size.accuracy if is_accuracy else size.loss) for size in comparison.sizes]
    _errorbars(axes, [(size, spread) for size, spread in validated if spread is not None], factor)
    axes.set(xlabel="batch size", ylabel="accuracy, %" if is_accuracy else "loss", xscale="log")


def _draw_noise(axes: Any, comparison: Comparison) -> None:
    known = [(size, size.loss_noise) for size in comparison.sizes if size.loss_noise is not None]
    _errorbars(axes, [(size, noise) for size, noise in known if noise is not None], 1)
    if known:
        first, noise = known[0]
        sizes = sorted(size.batch_size for size, _ in known)
        theory = [noise.mean * sqrt(first.batch_size / size) for size in sizes] if noise else []
        axes.plot(sizes, theory, color="gray", linestyle="--", label="1/sqrt(B), from the first")
        axes.legend(fontsize="small", frameon=False)
    axes.set(xlabel="batch size", ylabel="deviation of a step's loss", xscale="log", yscale="log")


def _errorbars(axes: Any, known: list[tuple[BatchSizeSummary, MeanStd]], factor: float) -> None:
    if known:
        axes.errorbar(
            [size.batch_size for size, _ in known],
            [factor * spread.mean for _, spread in known],
            yerr=[factor * (spread.std or 0.0) for _, spread in known],
            marker="o",
            capsize=3,
        )


def _name(size: BatchSizeSummary) -> str:
    return f"{size.batch_size:,}{' (full)' if size.is_full else ''}"
