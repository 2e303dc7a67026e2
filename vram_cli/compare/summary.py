"""From single runs to one batch size: means, and how far runs lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from vram_cli.compare.records import BatchSizeSummary, ComparePlan, MeanStd, MemoryCheck, NoisePoint, Run

CLEAR = 2.0
"""A mean gradient counts as known where |G|^2 is this many times what it differs by between runs or looks, at least."""


def size_answer(
    size: int, plan: ComparePlan, accumulate: int, fit: MemoryCheck | None, runs: Sequence[Run]
) -> BatchSizeSummary:
    """Return what the runs of one batch size come to; those that diverged are counted and left out."""
    good = [run for run in runs if run.diverged_at is None]
    points = [point for run in good for point in run.noise if point.images * 2 > run.images]
    images = plan.trained
    return BatchSizeSummary(
        batch_size=size,
        is_full=size == plan.trained,
        fit=fit,
        runs=len(runs),
        diverged=len(runs) - len(good),
        rose=sum(_rose(run) for run in good),
        parts=runs[0].parts if runs else 1,
        learning_rate=runs[0].learning_rate if runs else None,
        steps_per_epoch=max(1, -(-images // (size * accumulate))),
        accuracy=spread([run.accuracy for run in good]),
        loss=spread([run.loss for run in good]),
        loss_noise=spread([run.loss_noise for run in good]),
        noise_scale=noise_scale(points),
        seconds_per_epoch=spread([run.seconds / plan.epochs for run in good]),
        images_per_second=spread([run.images / run.seconds for run in good if run.seconds]),
    )


def _rose(run: Run) -> bool:
    return len(run.curve) > 1 and run.curve[-1].loss > run.curve[0].loss


def spread(values: Sequence[float | None]) -> MeanStd | None:
    """Return mean and sample deviation of the values that are there, None where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return MeanStd(mean=fmean(known), deviation=stdev(known) if len(known) > 1 else None, runs=len(known))


def noise_scale(points: Sequence[NoisePoint]) -> float | None:
    """Return tr(S) / |G|^2, each averaged first, as McCandlish et al. 2018 advise in appendix A.1.

    None where there are no points, or the signal is so small that its estimate is mostly noise.
    """
    if not points:
        return None
    signals = [point.signal for point in points]
    signal, variance = fmean(signals), fmean(point.variance for point in points)
    doubt = stdev(signals) / len(signals) ** 0.5 if len(signals) > 1 else 0.0
    if signal <= 0 or signal < CLEAR * doubt:
        return None
    return max(variance, 0.0) / signal
