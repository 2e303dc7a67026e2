"""The answer of `vram compare` as a document."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

from vram_cli.compare import charts
from vram_cli.compare.findings import rank
from vram_cli.compare.records import BatchSizeSummary, Comparison, MeanStd
from vram_cli.report import document as doc
from vram_cli.report.answers.run_sections import config_section, context, evidence
from vram_cli.report.words import count, number, origin
from vram_cli.units import format_bytes

_MISSING = "-"
_RULES = {"linear": "scaled linearly", "sqrt": "scaled by the square root", "none": "the same for all"}
_NOISE_CAPTION = (
    "Loss noise: standard deviation of a step's loss around its trend, in the second half of training; times sqrt(B), "
    "it is the same for all sizes if theory holds. Noise scale: tr(S)/|G|^2 of the gradients (McCandlish et al. 2018), "
    "an estimate of the critical batch size. Step noise: sqrt(noise scale / B), the noise of one step's gradient over "
    "its signal. ±: standard deviation over runs."
)


def comparison_document(comparison: Comparison) -> doc.Document:
    """Return a comparison as a document."""
    sizes = comparison.sizes
    return doc.Document(
        heading=_heading(comparison),
        summary=_summary(comparison),
        context=context("compare", comparison.run),
        remark=comparison.run.remark,
        blocks=(
            _table("Validation", ("learning rate", "accuracy", "loss"), sizes, _validation_cells),
            _chart("validation", comparison, charts.draw_validation, _describe(sizes, _validation_cells)),
            _table("Cost", ("steps/epoch", "s/epoch", "samples/s", "peak memory"), sizes, _cost_cells),
            _table(
                "Noise",
                ("loss noise", "x sqrt(B)", "noise scale", "step noise"),
                sizes,
                _noise_cells,
                caption=_NOISE_CAPTION,
            ),
            _chart("loss-noise", comparison, charts.draw_loss_noise, _describe(sizes, _noise_cells)),
            _chart(
                "training-loss",
                comparison,
                charts.draw_training_loss,
                _describe(sizes, _loss_range(comparison)),
                "Training loss",
            ),
            *(
                [doc.Bullets(tuple(f"{text}." for text in comparison.findings), "Findings")]
                if comparison.findings
                else []
            ),
            evidence(comparison.run, formats=doc.PAGES),
            config_section(comparison.run),
        ),
        picture=partial(charts.draw_picture, comparison),
    )


def _heading(comparison: Comparison) -> doc.Line:
    ranking = rank(comparison.sizes)
    if ranking is None:
        return "Batch sizes:", ", ".join(map(_name, comparison.sizes))
    score = f"accuracy {_percent(ranking.top)}" if ranking.by_accuracy else f"loss {_loss(ranking.top)}"
    if ranking.is_undecided:
        score += ", from single runs"
    elif ranking.tied:
        score += f", tied with {', '.join(number(size.batch_size) for size in ranking.tied)}"
    return "Best validation:", f"batch size {number(ranking.best.batch_size)} ({score})"


def _summary(comparison: Comparison) -> tuple[doc.Line, ...]:
    plan, run = comparison.plan, comparison.run
    data = f"{number(plan.num_train_samples)} training and {number(plan.num_val_samples)} validation samples"
    data += " per fold" if plan.folds > 1 else ""
    if run.data:
        total = f"the {number(run.data.num_samples)} in " if run.data.num_samples else ""
        data += f" of {total}{run.data.name}"
    warmup = f", with {plan.warmup:g} epoch{'s' * (plan.warmup != 1)} of warm-up" if plan.warmup else ""
    runs = count(comparison.repeats * plan.folds, "run")
    lines = [
        ("Config:", f"{run.config_name} on {run.device.name} ({origin(run.device)})"),
        ("Data:", f"{data}, seed {plan.seed}"),
        ("Per size:", f"{runs} of {count(plan.epochs, 'epoch')}; learning rate {_RULES[plan.lr_scaling]}{warmup}"),
    ]
    if comparison.interrupted:
        finished = sum(size.runs for size in comparison.sizes)
        lines.append(("Interrupted:", f"after {count(finished, 'finished run')}; run the same command to resume"))
    return tuple(lines)


_Cells = Callable[[BatchSizeSummary], tuple[str, ...]]


def _table(
    title: str, heads: tuple[str, ...], sizes: tuple[BatchSizeSummary, ...], cells: _Cells, caption: str = ""
) -> doc.Table:
    columns = tuple(doc.Column(head) for head in ("batch size", *heads))
    return doc.Table(title, columns, tuple(doc.Row((_name(size), *cells(size))) for size in sizes), caption=caption)


def _chart(name: str, comparison: Comparison, draw: charts.Draw, description: str, title: str = "") -> doc.Chart:
    return doc.Chart(name, title, description, partial(charts.draw_figure, comparison, draw))


def _describe(sizes: tuple[BatchSizeSummary, ...], cells: _Cells) -> str:
    return "; ".join(f"batch size {_name(size)}: {', '.join(cells(size))}" for size in sizes)


def _validation_cells(size: BatchSizeSummary) -> tuple[str, ...]:
    rate = _MISSING if size.learning_rate is None else f"{size.learning_rate:.3g}"
    if size.diverged and size.diverged == size.runs:
        return rate, "diverged", "diverged"
    return rate, _percent(size.accuracy), _loss(size.loss)


def _cost_cells(size: BatchSizeSummary) -> tuple[str, ...]:
    return (
        number(size.steps_per_epoch),
        _MISSING if size.seconds_per_epoch is None else f"{size.seconds_per_epoch.mean:.2f}",
        _MISSING if size.samples_per_second is None else f"{size.samples_per_second.mean:,.0f}",
        _peak(size),
    )


def _noise_cells(size: BatchSizeSummary) -> tuple[str, ...]:
    noise, scale = size.loss_noise, size.noise_scale
    return (
        _MISSING if noise is None else f"{noise.mean:.4f}",
        _MISSING if noise is None else f"{noise.mean * sqrt(size.batch_size):.3f}",
        _MISSING if scale is None else f"{scale:,.0f}",
        _MISSING if scale is None else f"{sqrt(scale / size.batch_size):.2f}",
    )


def _loss_range(comparison: Comparison) -> _Cells:
    """Return the first and the last point of the mean loss curve."""

    def cells(size: BatchSizeSummary) -> tuple[str, ...]:
        curve = charts.mean_curve(comparison, size)
        return (f"{curve[0][1]:.3g} to {curve[-1][1]:.3g}",) if curve else (_MISSING,)

    return cells


def _name(size: BatchSizeSummary) -> str:
    return charts.name_of(size)


def _peak(size: BatchSizeSummary) -> str:
    check = size.memory_check
    if check is None:
        return _MISSING
    peak = format_bytes(check.peak_bytes) if check.peak_bytes else ""
    if check.fits:
        return peak
    return f"{peak} (split {check.micro_batches})" if size.runs and peak else "does not fit"


def _percent(accuracy: MeanStd | None) -> str:
    return _MISSING if accuracy is None else f"{_plus_minus(accuracy, lambda value: f'{100 * value:.1f}')} %"


def _loss(loss: MeanStd | None) -> str:
    return _MISSING if loss is None else _plus_minus(loss, lambda value: f"{value:.3f}")


def _plus_minus(value: MeanStd, render: Callable[[float], str]) -> str:
    return render(value.mean) if value.std is None else f"{render(value.mean)} ± {render(value.std)}"
