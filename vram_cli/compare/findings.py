"""What the figures of a comparison say, in sentences; and what they do not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log, sqrt
from typing import NamedTuple

from vram_cli.compare.records import BatchSizeSummary, ComparePlan, MeanStd, MemoryCheck

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, section 1.3.6.7.2).
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.960
_AS_THEORY = 1.25
"""A loss noise within this factor of what 1/sqrt(B) makes of the smallest size's is called that of the theory."""
_FEWEST_SIZES = 3


def findings(sizes: Sequence[BatchSizeSummary], plan: ComparePlan) -> tuple[str, ...]:
    """Return a sentence for each thing that the sizes show side by side."""
    ranking = _ranking(sizes)
    return (
        *(_which_is_best(ranking, plan) if ranking else ()),
        *_noise(sizes),
        *(_critical(ranking) if ranking else ()),
        *_fastest(sizes),
        *_lost(sizes, plan),
    )


def differ(one: MeanStd, other: MeanStd) -> bool | None:
    """Whether two means differ by more than chance would have it: Welch's t-test at 95 %; None for single runs."""
    if one.deviation is None or other.deviation is None:
        return None
    parts = [side.deviation**2 / side.runs for side in (one, other) if side.deviation is not None]
    error = sum(parts)
    gap = abs(one.mean - other.mean)
    if error == 0:
        return gap > 0
    # Welch and Satterthwaite's degrees of freedom.
    shares = zip(parts, (one, other), strict=True)
    freedom = 1 / sum((part / error) ** 2 / (side.runs - 1) for part, side in shares)
    return gap > _quantile(freedom) * sqrt(error)


def _quantile(freedom: float) -> float:
    """Return t's quantile for degrees of freedom between those of the table too: almost a line over their inverse."""
    below = min(int(freedom), len(_T))
    low, high = _T[below - 1], _T[below] if below < len(_T) else _NORMAL
    end = 1 / (below + 1) if below < len(_T) else 0.0
    return low + (high - low) * (1 / below - 1 / freedom) / (1 / below - end)


def noise_exponent(sizes: Sequence[BatchSizeSummary]) -> float | None:
    """Return p of the least-squares fit log(loss noise) = p log(batch size) + c; None for fewer than 3 sizes."""
    known = [(size.batch_size, noise.mean) for size in sizes if (noise := size.loss_noise) is not None]
    points = [(log(size), log(noise)) for size, noise in known if noise > 0]
    if len(points) < _FEWEST_SIZES:
        return None
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    across: float = sum((x - mean_x) ** 2 for x, _ in points)
    together: float = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return together / across


class _Ranking(NamedTuple):
    """Sizes by validation: accuracy where all have one, else loss."""

    best: BatchSizeSummary
    top: MeanStd
    verdicts: list[tuple[BatchSizeSummary, bool | None]]
    """The others, and whether they differ from the best."""
    by_accuracy: bool

    @property
    def as_good(self) -> list[BatchSizeSummary]:
        """The best and those that do not differ from it."""
        return [self.best, *(size for size, differs in self.verdicts if differs is False)]


def _ranking(sizes: Sequence[BatchSizeSummary]) -> _Ranking | None:
    by_accuracy = all(size.accuracy for size in sizes if size.loss)
    known = [(size, spread) for size in sizes if (spread := size.accuracy if by_accuracy else size.loss)]
    if len(known) < 2:
        return None
    best, top = max(known, key=lambda pair: pair[1].mean if by_accuracy else -pair[1].mean)
    verdicts = [(size, differ(top, spread)) for size, spread in known if size is not best]
    return _Ranking(best, top, verdicts, by_accuracy)


def _which_is_best(ranking: _Ranking, plan: ComparePlan) -> Iterator[str]:
    top = ranking.top
    what = f"an accuracy of {100 * top.mean:.1f} %" if ranking.by_accuracy else f"a loss of {top.mean:.4g}"
    begins = f"Batch size {ranking.best.batch_size:,} has the best validation, {what}"
    if any(verdict is None for _, verdict in ranking.verdicts):
        yield f"{begins}, of single runs: whether the others are worse or it was chance, --repeats 3 would tell"
        return
    _, *close = ranking.as_good
    runs = f"{top.runs} runs each{', folds counted' if plan.folds > 1 else ''}"
    if close:
        yield f"{begins}; {_listed(close)} {_is(close)} within the noise of that ({runs}, Welch's t-test at 95 %)"
    else:
        yield f"{begins}, by more than the noise of {runs} (Welch's t-test at 95 %)"


def _noise(sizes: Sequence[BatchSizeSummary]) -> Iterator[str]:
    known = [(size, noise.mean * sqrt(size.batch_size)) for size in sizes if (noise := size.loss_noise)]
    if len(known) < 2:
        return
    smallest, expected = min(known, key=lambda pair: pair[0].batch_size)
    apart = [(size, level / expected) for size, level in known if not _is_as_theory(level, expected)]
    held = [size for size, level in known if _is_as_theory(level, expected)]
    if len(held) > 1:
        exponent = noise_exponent(held)
        fit = "" if exponent is None else f" (fitted: B^{exponent:.2f})"
        largest = max(held, key=lambda size: size.batch_size)
        yield (
            f"The noise of the training loss falls as 1/sqrt(B), as theory has it, from batch size "
            f"{smallest.batch_size:,} to {largest.batch_size:,}{fit}"
        )
    for size, ratio in apart:
        yield (
            f"At batch size {size.batch_size:,} that noise is {ratio:.1f} times what 1/sqrt(B) makes of the noise at "
            f"{smallest.batch_size:,}: theory is for sizes at the same weights, and each has trained its own, with "
            "another rate and number of steps"
        )


def _is_as_theory(level: float, expected: float) -> bool:
    return expected / _AS_THEORY <= level <= expected * _AS_THEORY


def _critical(ranking: _Ranking) -> Iterator[str]:
    scales = [size.noise_scale for size in ranking.as_good if size.noise_scale]
    if not scales:
        return
    low, high = min(scales), max(scales)
    about = f"{_two_digits(low):,}" if high < 1.5 * low else f"{_two_digits(low):,} to {_two_digits(high):,}"
    yield (
        f"The critical batch size that the gradient noise scale implies is about {about}, for the weights of the sizes "
        "that validate best, in the second half of training: well below it twice the batch does almost twice the work "
        "of a step, well above it hardly more"
    )


def _fastest(sizes: Sequence[BatchSizeSummary]) -> Iterator[str]:
    known = [(size, speed) for size in sizes if (speed := size.images_per_second)]
    if len(known) < 2:
        return
    fastest, speed = max(known, key=lambda pair: pair[1].mean)
    slowest, slow = min(known, key=lambda pair: pair[1].mean)
    if differ(_logarithm(speed), _logarithm(slow)) is False:
        yield f"All sizes train about equally fast, {speed.mean:,.0f} samples/s: they differ within the noise"
        return
    yield (
        f"Batch size {fastest.batch_size:,} is the fastest, {speed.mean:,.0f} samples/s; {slowest.batch_size:,} is the "
        f"slowest, with {slow.mean:,.0f}"
    )


def _logarithm(speed: MeanStd) -> MeanStd:
    """Return a speed as its logarithm: what disturbs a run makes it slower by a factor, not by a difference."""
    deviation = None if speed.deviation is None else speed.deviation / speed.mean
    return MeanStd(mean=log(speed.mean), deviation=deviation, runs=speed.runs)


def _lost(sizes: Sequence[BatchSizeSummary], plan: ComparePlan) -> Iterator[str]:
    for size in sizes:
        name = f"Batch size {size.batch_size:,}"
        hint = "" if plan.scaling == "none" else "; try --warmup 1, or another --lr-scaling"
        if size.diverged:
            rate = f"{size.learning_rate:.3g}" if size.learning_rate is not None else "its rate"
            yield f"{name} diverged in {size.diverged} of {size.runs} runs at a learning rate of {rate}{hint}"
        if size.rose:
            yield f"{name} ended above the loss that it began with in {size.rose} of {size.runs} runs{hint}"
        fit = size.fit
        if fit is not None and not fit.fits:
            yield f"{name} does not run ({fit.message}){_offer(fit, is_trained=size.runs > 0)}"
        if size.steps_per_epoch * plan.epochs < 30 and size.runs:
            steps = size.steps_per_epoch * plan.epochs
            plural = "s" if steps > 1 else ""
            yield f"{name} took {steps:,} step{plural} in all: as many images as the others, and far fewer updates"


def _offer(fit: MemoryCheck, *, is_trained: bool) -> str:
    if fit.part is None:
        return ""
    parts = f"{fit.parts} parts of {fit.part:,}"
    return f"; it was trained in {parts}, gradients added up" if is_trained else f"; --accumulate trains it in {parts}"


def _listed(sizes: Sequence[BatchSizeSummary]) -> str:
    names = [f"{size.batch_size:,}" for size in sizes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(sizes: Sequence[BatchSizeSummary]) -> str:
    return "is" if len(sizes) == 1 else "are"


def _two_digits(value: float) -> int:
    whole = max(1, round(value))
    unit: int = 10 ** max(len(str(whole)) - 2, 0)
    return whole // unit * unit
