"""Summaries of all runs of one batch size."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from vram_cli.compare.records import BatchSizeSummary, ComparePlan, MeanStd, MemoryCheck, NoisePoint, TrainingRun

MIN_SIGNAL_TO_ERROR = 2.0
"""The mean gradient is significant if |G|^2 is at least this many standard errors above zero."""


def summarize(
    batch_size: int,
    plan: ComparePlan,
    accumulation_steps: int,
    memory_check: MemoryCheck | None,
    runs: Sequence[TrainingRun],
) -> BatchSizeSummary:
    """Summarize the runs of one batch size; runs that diverged are counted but not averaged."""
    converged = [run for run in runs if run.diverged_at is None]
    second_half = [point for run in converged for point in run.gradient_noise if point.samples * 2 > run.samples]
    return BatchSizeSummary(
        batch_size=batch_size,
        is_full=batch_size == plan.num_train_samples,
        memory_check=memory_check,
        runs=len(runs),
        diverged=len(runs) - len(converged),
        loss_increased=sum(_loss_increased(run) for run in converged),
        micro_batches=runs[0].micro_batches if runs else 1,
        learning_rate=runs[0].learning_rate if runs else None,
        steps_per_epoch=max(1, -(-plan.num_train_samples // (batch_size * accumulation_steps))),
        accuracy=mean_std([run.accuracy for run in converged]),
        loss=mean_std([run.loss for run in converged]),
        loss_noise=mean_std([run.loss_noise for run in converged]),
        noise_scale=noise_scale(second_half),
        seconds_per_epoch=mean_std([run.seconds / plan.epochs for run in converged]),
        samples_per_second=mean_std([run.samples / run.seconds for run in converged if run.seconds]),
    )


def mean_std(values: Sequence[float | None]) -> MeanStd | None:
    """Return mean and sample standard deviation of the values that are not None; None if all are."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    return MeanStd(mean=fmean(numbers), std=stdev(numbers) if len(numbers) > 1 else None, runs=len(numbers))


def noise_scale(points: Sequence[NoisePoint]) -> float | None:
    """Return tr(S) / |G|^2, each averaged first, as McCandlish et al. 2018 advise in appendix A.1.

    Return None without points, or if the estimate of |G|^2 is mostly noise.
    """
    if not points:
        return None
    signals = [point.signal for point in points]
    signal, variance = fmean(signals), fmean(point.variance for point in points)
    standard_error = stdev(signals) / len(signals) ** 0.5 if len(signals) > 1 else 0.0
    if signal <= 0 or signal < MIN_SIGNAL_TO_ERROR * standard_error:
        return None
    return max(variance, 0.0) / signal


def _loss_increased(run: TrainingRun) -> bool:
    return len(run.curve) > 1 and run.curve[-1].loss > run.curve[0].loss
