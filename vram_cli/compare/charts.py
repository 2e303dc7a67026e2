"""The charts of `vram compare`: training loss, validation, and loss noise by batch size."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from vram_cli.compare.records import BatchSizeSummary, Comparison, CurvePoint, MeanStd
from vram_cli.report.charts import new_figure, style_axes
from vram_cli.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw: TypeAlias = "Callable[[Axes, Comparison], None]"


def draw_picture(comparison: Comparison) -> Figure:
    """Draw all charts side by side, for `--plot`."""
    figure = new_figure(13, 4.2)
    charts: dict[str, Draw] = {
        "Training loss": draw_training_loss,
        "Validation": draw_validation,
        "Noise of the training loss": draw_loss_noise,
    }
    for axes, (title, draw) in zip(figure.subplots(1, len(charts)), charts.items(), strict=True):
        draw(axes, comparison)
        style_axes(axes, title)
    return figure


def draw_figure(comparison: Comparison, draw: Draw) -> Figure:
    """Draw one chart."""
    figure = new_figure()
    axes = figure.subplots()
    draw(axes, comparison)
    style_axes(axes)
    return figure


def draw_training_loss(axes: Axes, comparison: Comparison) -> None:
    """Draw the mean training loss over the samples seen, one line per batch size."""
    for index, size in enumerate(comparison.sizes):
        if curve := mean_curve(comparison, size):
            marker = "." if len(curve) < 9 else ""
            axes.plot(*zip(*curve, strict=True), label=name_of(size), color=f"C{index}", marker=marker)
    axes.set(xlabel="samples seen", ylabel="loss", yscale="log")
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda samples, _: number(round(samples)))
    if axes.lines:
        axes.legend(title="batch size", fontsize="small", title_fontsize="small", frameon=False)


def draw_validation(axes: Axes, comparison: Comparison) -> None:
    """Draw validation accuracy, or loss without classes, over the batch size."""
    is_accuracy = any(size.accuracy for size in comparison.sizes)
    scores = {size: size.accuracy if is_accuracy else size.loss for size in comparison.sizes}
    _draw_errorbars(axes, scores, 100 if is_accuracy else 1)
    axes.set(ylabel="accuracy, %" if is_accuracy else "loss")


def draw_loss_noise(axes: Axes, comparison: Comparison) -> None:
    """Draw the noise of the training loss over the batch size, with the 1/sqrt(B) prediction of theory."""
    noises = {size: size.loss_noise for size in comparison.sizes}
    _draw_errorbars(axes, noises, 1)
    levels = sorted((size.batch_size, noise.mean) for size, noise in noises.items() if noise)
    if levels:
        smallest, level = levels[0]
        sizes = [size for size, _ in levels]
        theory = [level * sqrt(smallest / size) for size in sizes]
        axes.plot(sizes, theory, color="gray", linestyle="--", zorder=3, label="1/sqrt(B), from the smallest")
        axes.legend(fontsize="small", frameon=False)
    axes.set(ylabel="standard deviation of the loss", yscale="log")


def mean_curve(comparison: Comparison, size: BatchSizeSummary) -> list[tuple[int, float]]:
    """Return samples seen and mean training loss over the runs of a batch size, without those that diverged."""
    runs = [run for run in comparison.runs if run.batch_size == size.batch_size and run.diverged_at is None]
    # Sections end at the same number of samples in all runs of a size.
    sections: zip[tuple[CurvePoint, ...]] = zip(*(run.curve for run in runs), strict=False)
    return [(points[0].samples, fmean(point.loss for point in points)) for points in sections]


def name_of(size: BatchSizeSummary) -> str:
    """Return the batch size, marked if it is the whole training set."""
    return f"{number(size.batch_size)}{' (full)' if size.is_full else ''}"


def _draw_errorbars(axes: Axes, values: dict[BatchSizeSummary, MeanStd | None], factor: float) -> None:
    points = [(size.batch_size, value) for size, value in values.items() if value is not None]
    if points:
        axes.errorbar(
            [size for size, _ in points],
            [factor * value.mean for _, value in points],
            yerr=[factor * (value.std or 0.0) for _, value in points],
            marker="o",
            markersize=4,
            capsize=3,
        )
    axes.set_xlabel("batch size")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda size, _: number(round(size)))
