"""The answer of `vram breakdown` as a document."""

from __future__ import annotations

from vram_cli.records import BreakdownResult, Category
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.answers.memory import breakdown_title, memory_blocks, require_detail, timeline_title
from vram_cli.report.answers.run_sections import (
    commands,
    config_section,
    context,
    evidence,
    notes,
    reads_note,
    samples_seen,
)
from vram_cli.report.answers.trials import trials_words
from vram_cli.report.next_step import after_breakdown, again
from vram_cli.report.words import number, percent, place, used_of


def breakdown_document(result: BreakdownResult, *, depth: int | None = None, timeline: bool = False) -> doc.Document:
    """Return the answer of `vram breakdown`.

    Args:
        result: the answer.
        depth: levels of modules to show in text and Markdown; None shows no modules.
        timeline: whether text and Markdown show memory over the step.

    Raises:
        ConfigError: modules or timeline are asked for and were not measured.
    """
    run = result.run
    return doc.Document(
        heading=_heading(result),
        summary=samples_seen(run),
        context=context(result.command, run),
        remark=run.remark,
        blocks=(
            *memory_blocks(result.breakdown, run.device, result.command, depth, timeline=timeline),
            evidence(run, ("trials", trials_words((result.measurement,), run.device))),
            *notes(reads_note((result.measurement,)), *result.notes),
            config_section(run),
            *commands(after_breakdown(result), again(result)),
        ),
        picture=lambda: _picture(result),
    )


def _heading(result: BreakdownResult) -> doc.Line:
    breakdown = result.breakdown
    if breakdown is None:
        return "Nothing measured:", "the trial left no breakdown"
    total = breakdown.total_bytes
    used = total - breakdown.bytes_of(Category.FREE)
    device = result.run.device
    uses, where = ("is predicted to use", f" on {device.name}") if device.is_simulated else ("uses", "")
    figures = f"{used_of(used, total)} ({percent(used, total)}){where} at its peak, {place(breakdown.peak_phase)}"
    return f"Batch size {number(breakdown.batch_size)}", f"{uses} {figures}"


def _picture(result: BreakdownResult) -> object:
    breakdown, timeline = require_detail(result.breakdown, result.command)
    titles = breakdown_title(breakdown, result.run.device), timeline_title(breakdown, result.run.device)
    return charts.breakdown_picture(breakdown, timeline, titles)
