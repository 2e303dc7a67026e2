"""The answer of `vram advise` as a document: the effect of each change, the best combination, and plans."""

from __future__ import annotations

import shlex

from vram_cli.records import AccumulationPlan, Advice, GpuEstimate, OptimizationResult, RankPlan, RunInfo
from vram_cli.report import document as doc
from vram_cli.report.answers.growth import growth_words
from vram_cli.report.answers.memory import breakdown_table
from vram_cli.report.answers.parallel import STRATEGIES
from vram_cli.report.answers.run_sections import commands, config_section, context, evidence, samples_seen
from vram_cli.report.answers.script import host_memory_note, script_remark
from vram_cli.report.next_step import to_use
from vram_cli.report.words import CATEGORY_LABELS, count, number, one_line, setting
from vram_cli.units import format_bytes

_MESSAGE_LIMIT = 160
_SAVINGS_FROM, _ROWS_FROM = 76, 100
"""Console widths from which the table shows savings, and the category that they come from."""


def advice_document(advice: Advice) -> doc.Document:
    """Return the answer of `vram advise`."""
    run = advice.run
    breakdown = (breakdown_table(advice.breakdown, run.device),) if advice.breakdown else ()
    return doc.Document(
        heading=_best(advice),
        summary=tuple(_summary(advice)),
        context=context(advice.command, run),
        remark=script_remark(run),
        blocks=(
            *_helping(advice),
            *_not_helping(advice),
            *_gpus(advice.gpus),
            *(doc.Details("Without changes", (table,), formats=frozenset({"html"})) for table in breakdown),
            *_remarks(advice),
            evidence(run, formats=doc.PAGES),
            config_section(run),
            *commands(to_use(advice)),
        ),
    )


def _summary(advice: Advice) -> list[doc.Line]:
    device = advice.run.device
    origin = "predicted" if device.is_simulated else "measured"
    memory = f"on {device.name}, {format_bytes(device.capacity_bytes)} ({origin})"
    lines = [("Without changes:", f"{_unchanged(advice)} {memory}")]
    if advice.growth is not None:
        later = "the sizes here run out of memory in later steps"
        lines.append(("Memory grows:", f"{growth_words(advice.growth)}, at {number(advice.at_batch_size)}; {later}"))
    plans = [plan for plan in (advice.fit_batch, advice.effective_batch) if plan is not None]
    verb = "evaluate" if setting(advice.run, "mode") == "eval" else "train"
    lines += [(f"To {verb} with {number(plan.batch_size)}:", _plan(plan, advice.run)) for plan in plans]
    lines += [_gpus_needed(plan) for plan in advice.fewest_gpus]
    if (rate := advice.learning_rate) is not None:
        before = f"{rate.from_learning_rate:g} at {number(rate.from_batch_size)}"
        after = f"{rate.learning_rate:.3g} at {number(rate.batch_size)}"
        lines.append(("Learning rate:", f"{after}, from {before}: {rate.note}"))
    lines += samples_seen(advice.run)
    if advice.interrupted:
        lines.append(("Interrupted:", f"after {count(len(advice.optimizations), 'change')}; the rest was not tried"))
    return lines


def _unchanged(advice: Advice) -> str:
    if not advice.interrupted or advice.optimizations:
        return _per_rank(advice.max_batch_size, advice.run)
    return f"at least {number(advice.max_batch_size)}" if advice.max_batch_size else "not known yet"


def _per_rank(size: int | None, run: RunInfo) -> str:
    """Return a batch size and, if there are several ranks, that of all of them."""
    samples = run.global_batch_size(size) if size else None
    return f"{_size(size)} per rank, {number(samples)} per step," if samples else _size(size)


def _best(advice: Advice) -> doc.Line:
    label, best = "Best so far:" if advice.interrupted else "Best together:", advice.best
    if best is None:
        return label, "none of the changes makes a larger batch fit"
    gain = _gain(best.max_batch_size, advice.max_batch_size)
    size = _per_rank(best.max_batch_size, advice.run)
    return label, f"{size.rstrip(',')}{f' ({gain})' if gain else ''} with {best.name}"


def _helping(advice: Advice) -> tuple[doc.Block, ...]:
    """Return the table of changes that help, the largest gain first."""
    helping = [result for result in advice.optimizations if result.helps]
    helping.sort(key=lambda result: -_batches(result) * (result.max_batch_size or 0))
    has_savings = any(result.saved_bytes is not None for result in helping)
    columns = (
        doc.Column("change", "words"),
        doc.Column("largest" if advice.run.ranks == 1 else "per rank"),
        doc.Column("gain"),
        doc.Column(f"saves at {number(advice.at_batch_size)}", min_width=_SAVINGS_FROM),
        doc.Column("from", "words", min_width=_ROWS_FROM),
        doc.Column("costs", "words"),
    )
    shown = [index for index in range(len(columns)) if has_savings or index not in (3, 4)]
    rows = [_change(result, advice) for result in helping]
    table = doc.Table(
        "Changes that help, each on its own",
        tuple(columns[index] for index in shown),
        tuple(doc.Row(tuple(cells[index] for index in shown)) for cells in rows),
    )
    return (table,) if rows else ()


def _change(result: OptimizationResult, advice: Advice) -> tuple[str, ...]:
    size = result.max_batch_size
    batches = _batches(result)
    largest = f"{batches:g} x {_size(size)}" if batches != 1 else _size(size)
    gain = _gain(size and size * batches, advice.max_batch_size) or "-"
    saves = "-" if result.saved_bytes is None else format_bytes(result.saved_bytes)
    source = CATEGORY_LABELS[result.saved_from] if result.saved_from else "-"
    return result.name, largest, gain, saves, source, _costs(result)


def _batches(result: OptimizationResult) -> float:
    """Return the batches of a step, relative to the training without changes."""
    return result.micro_batches * result.rank_ratio


def _costs(result: OptimizationResult) -> str:
    """Return the cost of a change: measured seconds, or else counted operations, and the cost in words."""
    ratios = ((result.step_time_ratio, "step time, measured"), (result.flops_ratio, "operations"))
    changes = [f"{100 * ratio - 100:+.0f} % {unit}" for ratio, unit in ratios if ratio and abs(ratio - 1) >= 0.005]
    return "; ".join(filter(None, (*changes[:1], result.cost))) or "none known"


def _not_helping(advice: Advice) -> tuple[doc.Block, ...]:
    rows = []
    for result in advice.optimizations:
        if not result.helps:
            reached = f"{_size(result.max_batch_size)}: " if result.max_batch_size else ""
            rows.append(doc.Row((result.name, reached + one_line(result.reason, _MESSAGE_LIMIT))))
    columns = doc.Column("change", "words"), doc.Column("reason", "words")
    return (doc.Details("Changes that do not help", (doc.Table("", columns, tuple(rows)),)),) if rows else ()


def _gpus(gpus: tuple[GpuEstimate, ...]) -> tuple[doc.Block, ...]:
    columns = (
        doc.Column("gpu", "words"), doc.Column("memory"), doc.Column("unchanged"), doc.Column("at best"),
        doc.Column("with", "words"),
    )  # fmt: skip
    rows = tuple(doc.Row(_gpu(gpu)) for gpu in gpus)
    return (doc.Table("On other GPUs (predicted)", columns, rows),) if gpus else ()


def _gpu(gpu: GpuEstimate) -> tuple[str, ...]:
    best, memory = gpu.best, format_bytes(gpu.capacity_bytes)
    if gpu.reason:
        return gpu.name, memory, "-", "-", one_line(gpu.reason, _MESSAGE_LIMIT)
    at_best, changes = (_size(best.max_batch_size), best.name) if best else ("-", "nothing helps")
    return gpu.name, memory, _size(gpu.max_batch_size), at_best, changes


def _remarks(advice: Advice) -> tuple[doc.Block, ...]:
    accuracy = (("Accuracy:", advice.run.device.accuracy),) if advice.run.device.accuracy else ()
    lines = (*accuracy, *(("Note:", note) for note in (*advice.notes, host_memory_note(advice.run)) if note))
    return (doc.Notes(lines),) if lines else ()


def _gain(after: float | None, before: int | None) -> str:
    return f"x{after / before:.2f}" if after and before else ""


def _size(size: int | None) -> str:
    return "nothing fits" if size is None else number(size)


def _plan(plan: AccumulationPlan, run: RunInfo) -> str:
    if plan.micro_batch_size is None:
        return f"not possible: {plan.note}"
    per_rank = "" if run.ranks == 1 else " per rank"
    if (count := plan.gradient_accumulation_steps) > 1:
        flag = f"--set train.gradient_accumulation_steps={count}"
        steps = f"{number(count)} micro-batches of {number(plan.micro_batch_size)}{per_rank}, gradients accumulated"
        return "; ".join(filter(None, (f"{steps} ({flag})", plan.note)))
    share = f"{number(plan.micro_batch_size)} per rank: " if per_rank else ""
    return f"{share}{plan.note}{_flags(plan.overrides)}"


def _gpus_needed(plan: RankPlan) -> doc.Line:
    """Return the fewest GPUs with a strategy, or the reason why no number of them is enough."""
    if plan.strategy is None:
        return "Fewest GPUs:", f"1 GPU, predicted{_flags(plan.overrides)}"
    label = f"Fewest GPUs, {STRATEGIES[plan.strategy]}:"
    if plan.ranks is None or plan.batch_size is None:
        return label, f"no number is enough: {one_line(plan.reason, _MESSAGE_LIMIT)}"
    return label, f"{count(plan.ranks, 'GPU')}, {number(plan.batch_size)} per rank, predicted{_flags(plan.overrides)}"


def _flags(overrides: tuple[str, ...]) -> str:
    flags = shlex.join([word for override in overrides for word in ("--set", override)])
    return f" ({flags})" if flags else ""
