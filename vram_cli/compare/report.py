"""The answer of `vram compare`: what is learned, what it costs, and how noisy it is, a row a batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from vram_cli.compare.records import BatchSizeSummary, Comparison, MeanStd
from vram_cli.report.tables import numbers, pairs, ruled
from vram_cli.report.words import count, literal, number
from vram_cli.units import format_bytes

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, heads and rows; the first column is the batch size."""

_NOTHING = "-"


def comparison_text(comparison: Comparison) -> RenderableType:
    """Return the comparison, to be drawn as wide as the console is."""
    return _Text(comparison)


def summary(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what was compared, on what and where; label and text of each line."""
    plan, data = comparison.plan, comparison.run.data
    name, length = (data.name, data.num_samples) if data else ("", None)
    of = f" of the {length:,} of {name}" if length else f" of {name}"
    kept = f"{plan.num_val_samples:,} to validate with"
    how = f"each fold trained on {plan.num_train_samples:,} and validated on {plan.num_val_samples:,}"
    samples = how if plan.folds > 1 else f"{plan.num_train_samples:,} samples to train on and {kept}"
    rule = {"linear": "scaled linearly", "sqrt": "scaled by the square root", "none": "the same for all"}[
        plan.lr_scaling
    ]
    warm = f", warm-up over {plan.warmup:g} {'epoch' if plan.warmup == 1 else 'epochs'}" if plan.warmup else ""
    runs = count(comparison.repeats * plan.folds, "run")
    lines = [
        ("Trained:", f"{comparison.run.config_name} on {comparison.run.device.name} (measured)"),
        ("Data:", f"{samples}{of}, chosen by seed {plan.seed}"),
        ("Each size:", f"{count(plan.epochs, 'epoch')}, {runs}; learning rate {rule}{warm}"),
    ]
    if comparison.interrupted:
        done = sum(size.runs for size in comparison.sizes)
        lines.append(("Interrupted:", f"{count(done, 'run')} finished; run the same command to resume"))
    return lines


def tables(comparison: Comparison) -> list[Table]:
    """Return the three tables."""
    sizes = comparison.sizes
    return [
        ("What was learned: validation", LEARNED, [_learned(size) for size in sizes]),
        ("What it cost", COST, [_cost(size) for size in sizes]),
        ("How noisy it was", NOISE, [_noise(size) for size in sizes]),
    ]


LEARNED = ("batch size", "learning rate", "accuracy", "loss")
COST = ("batch size", "steps/epoch", "s/epoch", "samples/s", "peak memory")
NOISE = ("batch size", "loss noise", "x sqrt(B)", "noise scale", "in a step")
NOISE_WORDS = (
    "loss noise: deviation of a step's loss from its trend, in the second half; times sqrt(B) it is the same for all "
    "sizes where theory holds. noise scale: tr(S)/|G|^2 of the gradients there (McCandlish et al. 2018), the critical "
    "batch size. in a step: sqrt(noise scale / B), noise over signal of its gradient. ±: standard deviation of a run"
)


class _Text:
    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the sections with an empty line between two."""
        for index, section in enumerate(self._sections()):
            if index:
                yield Segment.line()
            yield section

    def _sections(self) -> Iterator[RenderableType]:
        comparison = self._comparison
        if comparison.run.remark:
            yield literal(comparison.run.remark, "yellow")
        yield pairs([(literal(label, "bold"), literal(text)) for label, text in summary(comparison)])
        for title, heads, rows in tables(comparison):
            table = ruled(*(numbers(head) for head in heads))
            for row in rows:
                table.add_row(*row)
            yield Group(Text(title, "bold"), table)
        yield literal(NOISE_WORDS, "dim")
        if comparison.findings:
            yield Group(Text("What this shows", "bold"), pairs(_dotted(comparison.findings)))


def _dotted(sentences: Sequence[str]) -> list[tuple[Text, Text]]:
    return [(Text("-"), literal(f"{sentence}.")) for sentence in sentences]


def _learned(size: BatchSizeSummary) -> tuple[str, ...]:
    rate = _NOTHING if size.learning_rate is None else f"{size.learning_rate:.3g}"
    if size.diverged and size.diverged == size.runs:
        return _name(size), rate, "diverged", "diverged"
    accuracy = _spread(size.accuracy, lambda value: f"{100 * value:.1f}", " %")
    return _name(size), rate, accuracy, _spread(size.loss, lambda value: f"{value:.3f}")


def _cost(size: BatchSizeSummary) -> tuple[str, ...]:
    return (
        _name(size),
        number(size.steps_per_epoch),
        _NOTHING if size.seconds_per_epoch is None else f"{size.seconds_per_epoch.mean:.2f}",
        _NOTHING if size.samples_per_second is None else f"{size.samples_per_second.mean:,.0f}",
        _peak(size),
    )


def _noise(size: BatchSizeSummary) -> tuple[str, ...]:
    noise, scale = size.loss_noise, size.noise_scale
    return (
        _name(size),
        _NOTHING if noise is None else f"{noise.mean:.4f}",
        _NOTHING if noise is None else f"{noise.mean * sqrt(size.batch_size):.3f}",
        _NOTHING if scale is None else f"{scale:,.0f}",
        _NOTHING if scale is None else f"{sqrt(scale / size.batch_size):.2f}",
    )


def _name(size: BatchSizeSummary) -> str:
    return f"{number(size.batch_size)}{' (full)' if size.is_full else ''}"


def _peak(size: BatchSizeSummary) -> str:
    fit = size.memory_check
    if fit is None:
        return _NOTHING
    peak = format_bytes(fit.peak_bytes) if fit.peak_bytes else ""
    if fit.fits:
        return peak
    return f"{peak} in {fit.micro_batches} parts" if size.runs and peak else "does not fit"


def _spread(spread: MeanStd | None, shown: Callable[[float], str], unit: str = "") -> str:
    if spread is None:
        return _NOTHING
    around = "" if spread.std is None else f" ± {shown(spread.std)}"
    return f"{shown(spread.mean)}{around}{unit}"
