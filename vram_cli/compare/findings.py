"""Conclusions from the figures of a comparison, and their limits, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log, sqrt
from statistics import linear_regression
from typing import NamedTuple

from vram_cli.compare.records import BatchSizeSummary, ComparePlan, MeanStd, MemoryCheck
from vram_cli.report.words import two_digits

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, section 1.3.6.7.2).
_T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL_QUANTILE = 1.960
_THEORY_TOLERANCE = 1.25
"""Factor within which a loss noise counts as the one that 1/sqrt(B) predicts from the smallest size."""
_MIN_FIT_SIZES = 3
_FEW_STEPS = 30


def findings(sizes: Sequence[BatchSizeSummary], plan: ComparePlan) -> tuple[str, ...]:
    """Return one sentence per conclusion."""
    ranking = rank(sizes)
    return (
        *(_describe_best(ranking, plan) if ranking else ()),
        *_describe_loss_noise(sizes),
        *(_describe_critical_batch_size(ranking) if ranking else ()),
        *_describe_speed(sizes),
        *_describe_problems(sizes, plan),
    )


def differ(one: MeanStd, other: MeanStd) -> bool | None:
    """Return whether two means differ significantly (Welch's t-test at 95 %); None for single runs."""
    if one.std is None or other.std is None:
        return None
    first, second = one.std**2 / one.runs, other.std**2 / other.runs
    error = first + second
    gap = abs(one.mean - other.mean)
    if error == 0:
        return gap > 0
    # The Welch-Satterthwaite equation.
    freedom = 1 / ((first / error) ** 2 / (one.runs - 1) + (second / error) ** 2 / (other.runs - 1))
    return gap > t_quantile(freedom) * sqrt(error)


def t_quantile(freedom: float) -> float:
    """Return the quantile of Student's t, interpolated in the inverse of the degrees of freedom."""
    below = min(int(freedom), len(_T_QUANTILES))
    low, high = _T_QUANTILES[below - 1], _T_QUANTILES[below] if below < len(_T_QUANTILES) else _NORMAL_QUANTILE
    end = 1 / (below + 1) if below < len(_T_QUANTILES) else 0.0
    return low + (high - low) * (1 / below - 1 / freedom) / (1 / below - end)


def noise_exponent(sizes: Sequence[BatchSizeSummary]) -> float | None:
    """Return p of the least-squares fit log(loss noise) = p log(batch size) + c; None for fewer than 3 sizes."""
    noises = {size.batch_size: size.loss_noise.mean for size in sizes if size.loss_noise and size.loss_noise.mean > 0}
    if len(noises) < _MIN_FIT_SIZES:
        return None
    return linear_regression([*map(log, noises)], [*map(log, noises.values())]).slope


class Ranking(NamedTuple):
    """Sizes by validation accuracy if all have one, else by validation loss."""

    best: BatchSizeSummary
    top: MeanStd
    others: list[tuple[BatchSizeSummary, bool | None]]
    """The other sizes, and whether they differ significantly from the best."""
    by_accuracy: bool

    @property
    def tied(self) -> list[BatchSizeSummary]:
        """The sizes that do not differ significantly from the best."""
        return [size for size, differs in self.others if differs is False]

    @property
    def is_undecided(self) -> bool:
        """Whether single runs leave open which size is best."""
        return any(differs is None for _, differs in self.others)


def rank(sizes: Sequence[BatchSizeSummary]) -> Ranking | None:
    """Rank the sizes; return None for fewer than two."""
    by_accuracy = all(size.accuracy for size in sizes if size.loss)
    scores = [(size, score) for size in sizes if (score := size.accuracy if by_accuracy else size.loss)]
    if len(scores) < 2:
        return None
    best, top = max(scores, key=lambda pair: pair[1].mean if by_accuracy else -pair[1].mean)
    others = [(size, differ(top, score)) for size, score in scores if size is not best]
    return Ranking(best, top, others, by_accuracy)


def _describe_best(ranking: Ranking, plan: ComparePlan) -> Iterator[str]:
    top = ranking.top
    measure, value = ("accuracy", f"{100 * top.mean:.1f} %") if ranking.by_accuracy else ("loss", f"{top.mean:.4g}")
    best = f"Batch size {ranking.best.batch_size:,} has the best validation {measure}, {value}"
    if ranking.is_undecided:
        yield f"{best}, but single runs cannot separate batch sizes from chance: use --repeats 3"
        return
    runs = f"{top.runs} runs each{', counting folds' if plan.folds > 1 else ''}"
    if ranking.tied:
        verb = "matches" if len(ranking.tied) == 1 else "match"
        yield f"{best}; {_join(ranking.tied)} {verb} it within the noise ({runs}, Welch's t-test at 95 %)"
    else:
        yield f"{best}, ahead of the others by more than the noise ({runs}, Welch's t-test at 95 %)"


def _describe_loss_noise(sizes: Sequence[BatchSizeSummary]) -> Iterator[str]:
    scaled = [(size, noise.mean * sqrt(size.batch_size)) for size in sizes if (noise := size.loss_noise)]
    if len(scaled) < 2:
        return
    smallest, expected = min(scaled, key=lambda pair: pair[0].batch_size)
    matching = [size for size, level in scaled if _is_near(level, expected)]
    if len(matching) > 1:
        exponent = noise_exponent(matching)
        fit = "" if exponent is None else f" (fitted: B^{exponent:.2f})"
        largest = max(matching, key=lambda size: size.batch_size)
        yield (
            f"The noise of the training loss falls as 1/sqrt(B) from batch size {smallest.batch_size:,} to "
            f"{largest.batch_size:,}, as theory predicts{fit}"
        )
    for size, level in scaled:
        if not _is_near(level, expected):
            yield (
                f"At batch size {size.batch_size:,}, the noise of the training loss is {level / expected:.1f} times "
                f"the 1/sqrt(B) prediction from batch size {smallest.batch_size:,}: theory assumes equal weights, but "
                "each size trains its own, with a different learning rate and number of steps"
            )


def _is_near(level: float, expected: float) -> bool:
    return expected / _THEORY_TOLERANCE <= level <= expected * _THEORY_TOLERANCE


def _describe_critical_batch_size(ranking: Ranking) -> Iterator[str]:
    scales = [size.noise_scale for size in (ranking.best, *ranking.tied) if size.noise_scale]
    if not scales:
        return
    low, high = min(scales), max(scales)
    about = f"{two_digits(low):,}" if high < 1.5 * low else f"{two_digits(low):,} to {two_digits(high):,}"
    yield (
        f"The gradient noise scale implies a critical batch size of about {about}, for the sizes with the best "
        "validation, in the second half of training: well below it, doubling the batch size almost halves the steps "
        "needed; well above it, larger batches hardly help"
    )


def _describe_speed(sizes: Sequence[BatchSizeSummary]) -> Iterator[str]:
    speeds = [(size, speed) for size in sizes if (speed := size.samples_per_second)]
    if len(speeds) < 2:
        return
    fastest, most = max(speeds, key=lambda pair: pair[1].mean)
    slowest, least = min(speeds, key=lambda pair: pair[1].mean)
    if differ(_to_log(most), _to_log(least)) is False:
        yield f"All sizes train at about the same speed, {most.mean:,.0f} samples/s, within the noise"
        return
    yield (
        f"Batch size {fastest.batch_size:,} is the fastest at {most.mean:,.0f} samples/s, and "
        f"{slowest.batch_size:,} the slowest at {least.mean:,.0f}"
    )


def _to_log(speed: MeanStd) -> MeanStd:
    """Return the logarithm of a speed: other load on the machine slows a run by a factor, not by a difference."""
    std = None if speed.std is None else speed.std / speed.mean
    return MeanStd(mean=log(speed.mean), std=std, runs=speed.runs)


def _describe_problems(sizes: Sequence[BatchSizeSummary], plan: ComparePlan) -> Iterator[str]:
    warmup = "a longer --warmup" if plan.warmup else "--warmup 1"
    hint = "" if plan.lr_scaling == "none" else f"; try {warmup} or another --lr-scaling"
    for size in sizes:
        name = f"Batch size {size.batch_size:,}"
        if size.diverged:
            rate = "" if size.learning_rate is None else f" at a learning rate of {size.learning_rate:.3g}"
            yield f"{name} diverged in {size.diverged} of {size.runs} runs{rate}{hint}"
        if size.loss_increased:
            runs = f"{size.loss_increased} of {size.runs} runs"
            yield f"{name} ended with a higher training loss than at the start in {runs}{hint}"
        check = size.memory_check
        if check is not None and not check.fits:
            yield f"{name} does not fit ({check.message}){_micro_batch_hint(check, is_trained=size.runs > 0)}"
        steps = size.steps_per_epoch * plan.epochs
        if steps < _FEW_STEPS and size.runs:
            plural = "s" if steps > 1 else ""
            yield f"{name} took only {steps:,} step{plural}: as many samples as the other sizes, but far fewer updates"


def _micro_batch_hint(check: MemoryCheck, *, is_trained: bool) -> str:
    if check.micro_batch_size is None:
        return ""
    batches = f"{check.micro_batches} micro-batches of {check.micro_batch_size:,}"
    return f"; it was trained as {batches}" if is_trained else f"; --accumulate trains it as {batches}"


def _join(sizes: Sequence[BatchSizeSummary]) -> str:
    names = [f"{size.batch_size:,}" for size in sizes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
