"""The trials of a search: how many ran, how they ended, and their peaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from vram_cli.records import Certificate, Device, Measurement
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.words import (
    OUTCOME_LABELS,
    count,
    duration,
    ended,
    number,
    one_line,
    origin,
    outcome_label,
)
from vram_cli.units import format_bytes


def trials_title(device: Device) -> str:
    """Return the title of trials."""
    return f"Peak memory of each trial ({origin(device)})"


def trials_section(trials: Sequence[Measurement], device: Device) -> doc.Details:
    """Return every trial with its peak memory, in the order in which they ran."""
    hidden = sum(not trial.peak_reserved_bytes for trial in trials)
    description = "; ".join(
        f"{number(trial.batch_size)}: {outcome_label(trial)}, {_size(trial.peak_reserved_bytes)}" for trial in trials
    )
    chart = doc.Chart("trials", trials_title(device), description, partial(charts.trials_figure, trials, device))
    left_out = f"{count(hidden, 'trial')} without a peak {'is' if hidden == 1 else 'are'} not in the chart."
    table = doc.Table(
        "",
        (
            doc.Column("batch size"),
            doc.Column("outcome", "words"),
            *map(doc.Column, ("allocated", "reserved", "seconds")),
        ),
        tuple(
            doc.Row(
                (
                    number(trial.batch_size),
                    outcome_label(trial),
                    _size(trial.peak_allocated_bytes),
                    _size(trial.peak_reserved_bytes),
                    f"{trial.seconds:.1f}",
                )
            )
            for trial in trials
        ),
    )
    remarks = (doc.Paragraph(left_out, formats=frozenset({"html"})),) if hidden else ()
    return doc.Details(trials_title(device), (chart, *remarks, table), formats=doc.PAGES)


def trials_words(trials: Sequence[Measurement], device: Device) -> str:
    """Return how many trials ran, for how long, and how they ended."""
    if not trials:
        return "none"
    steps = max(trial.steps for trial in trials)
    completed = sum(trial.fits for trial in trials)
    how = "predicted to fit" if device.is_simulated else f"ran to the end ({count(steps, 'step')} each)"
    ends = [f"{number(completed)} {how}"] if completed else []
    failed = Counter(OUTCOME_LABELS[trial.outcome] for trial in trials if not trial.fits)
    ends += [f"{number(times)} {label}" for label, times in failed.items()]
    seconds = duration(sum(trial.seconds for trial in trials))
    return f"{number(len(trials))} in {seconds}: {', '.join(ends)}"


def proof(certificate: Certificate | None, device: Device, message_limit: int) -> str:
    """Return the size that ran and the one that did not, with the words of the exception; "" if nothing ran."""
    if certificate is None:
        return ""
    how = "is predicted to fit" if device.is_simulated else f"ran {count(certificate.steps, 'full step')}"
    ran = f"{number(certificate.largest_ok)} {how}"
    if certificate.smallest_failed is None or certificate.outcome is None:
        return f"{ran}; nothing larger was tried"
    words = f": {one_line(certificate.message, message_limit)}" if certificate.message else ""
    end = ended(certificate.outcome, certificate.phase, certificate.rank)
    return f"{ran}; {number(certificate.smallest_failed)} {end}{words}"


def _size(peak: int) -> str:
    return format_bytes(peak) if peak else "-"
