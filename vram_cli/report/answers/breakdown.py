"""The answer of `vram breakdown` as a document."""

from __future__ import annotations

from vram_cli.records import Breakdown, BreakdownResult, Category
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.answers.growth import growth_lines
from vram_cli.report.answers.memory import breakdown_title, memory_blocks, needed_table, require_detail, timeline_title
from vram_cli.report.answers.parallel import global_batch, ranks_table
from vram_cli.report.answers.run_sections import (
    commands,
    config_section,
    context,
    evidence,
    foreach_note,
    notes,
    samples_seen,
    trial_notes,
)
from vram_cli.report.answers.script import host_memory_note, script_remark, writes_line
from vram_cli.report.answers.trials import trials_words
from vram_cli.report.next_step import after_breakdown, again
from vram_cli.report.words import CATEGORY_LABELS, number, percent, place, used_of
from vram_cli.units import format_bytes


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
    if result.needed is not None:
        return _document_of_misfit(result, result.needed)
    return doc.Document(
        heading=_heading(result),
        context=context(result.command, run),
        summary=(
            *global_batch(run, result.measurement.batch_size),
            *samples_seen(run),
            *growth_lines(result.measurement, run.device),
        ),
        remark=script_remark(run, result.measurement.batch_size),
        blocks=(
            *memory_blocks(result.breakdown, run.device, result.command, depth, timeline=timeline),
            *ranks_table(result.measurement),
            _evidence(result),
            *notes(foreach_note(result.breakdown, run), *_remarks(result)),
            config_section(run),
            *commands(after_breakdown(result), again(result)),
        ),
        picture=lambda: _picture(result),
    )


def _evidence(result: BreakdownResult) -> doc.Details:
    trials = (result.measurement,)
    return evidence(result.run, ("trials", trials_words(trials, result.run.device)), writes_line(result.run, trials))


def _remarks(result: BreakdownResult) -> tuple[str, ...]:
    return (*trial_notes((result.measurement,)), host_memory_note(result.run), *result.notes)


def _document_of_misfit(result: BreakdownResult, needed: Breakdown) -> doc.Document:
    run = result.run
    return doc.Document(
        heading=("Does not fit:", _excess(result, needed)),
        context=context(result.command, run),
        remark=script_remark(run, result.measurement.batch_size),
        blocks=(
            needed_table(needed, run.device),
            *ranks_table(result.measurement),
            _evidence(result),
            *notes(foreach_note(needed, run), *_remarks(result)),
        ),
    )


def _excess(result: BreakdownResult, needed: Breakdown) -> str:
    """Return what a batch would take, how much that is too much, and the row that goes beyond the memory there is."""
    device = result.run.device
    size, takes = number(needed.batch_size), format_bytes(needed.total_bytes)
    missing = format_bytes(max(needed.total_bytes - device.capacity_bytes, 0))
    row = CATEGORY_LABELS[_row_beyond(needed, device.capacity_bytes)]
    has = f"{missing} more than {device.name} has ({format_bytes(device.capacity_bytes)})"
    return f"batch size {size} would take {takes}, {has}; {row} go beyond it, {place(needed.peak_phase)}"


def _row_beyond(needed: Breakdown, capacity_bytes: int) -> Category:
    """Return the category with which the rows, added up from what lies outside the allocator on, exceed the memory."""
    outside = (Category.COMMUNICATION, Category.CONTEXT)
    total = sum(needed.bytes_of(category) for category in outside)
    for row in needed.rows:
        total += row.bytes if row.category not in outside else 0
        if total > capacity_bytes:
            return row.category
    return Category.ALLOCATOR_SLACK  # memory in pieces that are too small


def _heading(result: BreakdownResult) -> doc.Line:
    breakdown = result.breakdown
    if breakdown is None:
        return "Nothing measured:", "the trial left no breakdown"
    total = breakdown.total_bytes
    used = total - breakdown.bytes_of(Category.FREE)
    device = result.run.device
    uses, where = ("is predicted to use", f" on {device.name}") if device.is_simulated else ("uses", "")
    figures = f"{used_of(used, total)} ({percent(used, total)}){where} at its peak, {place(breakdown.peak_phase)}"
    per_rank = " per rank" if result.run.parallel else ""
    return f"Batch size {number(breakdown.batch_size)}{per_rank}", f"{uses} {figures}"


def _picture(result: BreakdownResult) -> object:
    breakdown, timeline = require_detail(result.breakdown, result.command)
    titles = breakdown_title(breakdown, result.run.device), timeline_title(breakdown, result.run.device)
    return charts.breakdown_picture(breakdown, timeline, titles)
