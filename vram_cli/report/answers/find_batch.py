"""The answer of `vram find-batch` as a document."""

from __future__ import annotations

from dataclasses import replace
from math import lcm

from vram_cli.records import Category, FindBatchResult, Limit, Measurement, Outcome, SearchResult
from vram_cli.report import charts
from vram_cli.report import document as doc
from vram_cli.report.answers.growth import growth_lines, until_full
from vram_cli.report.answers.memory import breakdown_title, memory_blocks
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
from vram_cli.report.answers.script import (
    host_memory_note,
    script_remark,
    validation_evidence,
    validation_headline,
    writes_line,
)
from vram_cli.report.answers.throughput import CHART_TITLE, fastest_words, knee_words, throughput_section, timed_words
from vram_cli.report.answers.trials import proof, trials_section, trials_title, trials_words
from vram_cli.report.next_step import again, next_step
from vram_cli.report.words import count, ended, number, one_line, origin, percent, setting, two_digits, used_of
from vram_cli.units import format_bytes

_MESSAGE_LIMITS: tuple[tuple[frozenset[doc.Format], int], ...] = ((frozenset({"text"}), 100), (doc.PAGES, 2000))
"""Characters of an exception's message: in a terminal its kind and the request that failed, on pages all of it."""

_LIMITS = {
    Limit.MEMORY: "memory",
    Limit.KERNEL_LIMIT: "a limit of a kernel, not memory",
    Limit.END_OF_SCRIPT: "the end of the script, as at that of its data",
    Limit.HOST_MEMORY: "this computer's RAM",
    Limit.TIME: "the time limit",
    Limit.ERROR: "an error in the training code",
}


def find_batch_document(result: FindBatchResult, *, depth: int | None = None, timeline: bool = False) -> doc.Document:
    """Return the answer of `vram find-batch`.

    Args:
        result: the answer.
        depth: levels of modules to show in text and Markdown; None shows no modules.
        timeline: whether text and Markdown show memory over the step.

    Raises:
        ConfigError: modules or timeline are asked for and were not measured.
    """
    run, throughput = result.run, result.throughput
    heading, *summary = headline(result)
    return doc.Document(
        heading=heading,
        summary=tuple(summary),
        context=context(result.command, run),
        remark=script_remark(run),
        blocks=(
            *memory_blocks(result.breakdown, run.device, result.command, depth, timeline=timeline),
            *ranks_table(_trial_of(result, result.max_batch_size or 0)),
            *((throughput_section(result, throughput),) if throughput else ()),
            *((trials_section(result.trials, run.device),) if result.trials else ()),
            *(
                evidence(
                    run,
                    ("trials", trials_words(result.trials, run.device)),
                    ("proof", proof(result.certificate, run.device, message_limit)),
                    ("speed", timed_words(throughput) if throughput else ""),
                    validation_evidence(result),
                    writes_line(run, _with_validation(result)),
                    formats=formats,
                )
                for formats, message_limit in _MESSAGE_LIMITS
            ),
            *notes(
                foreach_note(result.breakdown, run),
                *trial_notes(_with_validation(result)),
                host_memory_note(run),
                *result.notes,
            ),
            config_section(run),
            *(() if setting(run, "training") else commands(next_step(result), again(result))),
        ),
        picture=lambda: _picture(result),
    )


def _with_validation(result: FindBatchResult) -> tuple[Measurement, ...]:
    return result.trials if result.validation is None else (*result.trials, result.validation)


def headline(result: FindBatchResult) -> list[doc.Line]:
    """Return the answer in one to nine lines: the sizes, the limit that ended the search, and the samples seen."""
    if result.interrupted and result.limited_by is None:
        return [("Interrupted:", _known_so_far(result))]
    if result.max_batch_size is None:
        return [_nothing_fits(result)]
    label = "Largest that ran:" if result.limited_by is Limit.TIME else "Largest batch size:"
    lines = [(label, _largest(result, result.max_batch_size)), ("Recommended:", _recommended(result))]
    lines += global_batch(result.run, result.max_batch_size)
    if result.limited_by is not None:
        lines.append(("Limited by:", _limited_by(result, result.limited_by, result.max_batch_size)))
    lines += validation_headline(result)
    lines += samples_seen(result.run)
    lines += growth_lines(_trial_of(result, result.max_batch_size), result.run.device)
    if result.throughput is not None:
        so_far = " so far:" if len(result.throughput.points) < result.throughput.sizes else ":"
        lines.append((f"Fastest{so_far}", fastest_words(result.throughput)))
        lines.append((f"Knee{so_far}", knee_words(result.throughput)))
    if result.evaluation is not None:
        lines.append(("Evaluation:", _evaluation(result, result.evaluation)))
    if result.interrupted:
        lines.append(("Interrupted:", _unmeasured(result)))
    return lines


def _unmeasured(result: FindBatchResult) -> str:
    """Return what is missing, if the search itself was complete."""
    if result.evaluation is not None:
        return "before the search for evaluation ended"
    if result.run.script is not None and result.breakdown is not None:
        return "before validation was measured"
    if setting(result.run, "search.objective") != "throughput":
        return "before the breakdown was measured"
    if result.throughput is None:
        return "before any size was timed"
    return f"after {number(len(result.throughput.points))} of {count(result.throughput.sizes, 'size')} were timed"


def _nothing_fits(result: FindBatchResult) -> doc.Line:
    if not result.trials:
        return "Nothing measured:", "the search ended before its first trial"
    # An error at a smaller size, such as batch norm's at one sample, is not the reason.
    limited = [trial for trial in result.trials if trial.outcome is not Outcome.ERROR]
    smallest = min(limited or result.trials, key=lambda trial: trial.batch_size)
    size, end = number(smallest.batch_size), ended(smallest.outcome, smallest.phase, smallest.rank)
    why = f": {one_line(smallest.message)}" if smallest.message else ""
    if smallest.outcome is not Outcome.OUT_OF_MEMORY:
        return "Nothing ran to the end:", f"a batch of {size} {end}{why}"
    if result.shortfall_bytes is not None:
        why = f", at least {format_bytes(result.shortfall_bytes)} short"
    return f"Not even a batch of {size} fits:", f"it {end}{why}"


def _known_so_far(result: FindBatchResult) -> str:
    ran = max((trial.batch_size for trial in result.trials if trial.fits), default=None)
    # A failure below it, such as batch norm's at one sample, bounds nothing.
    above = (trial.batch_size for trial in result.trials if not trial.fits and trial.batch_size > (ran or 0))
    failed = min(above, default=None)
    if ran is None and failed is None:
        return "before any trial ended"
    largest = "nothing ran yet" if ran is None else f"largest that ran {number(ran)}"
    return f"{largest}, {'nothing failed yet' if failed is None else f'smallest that failed {number(failed)}'}"


def _largest(result: FindBatchResult, size: int) -> str:
    used, capacity = _used(result, size), result.run.device.capacity_bytes
    facts = [origin(result.run.device)] if result.run.device.is_simulated else []
    facts += [f"{used_of(used, capacity)}, {percent(used, capacity)}"] if used else []
    facts += ["thrashing"] if any(trial.thrashing for trial in result.trials if trial.batch_size == size) else []
    shown = f"{number(size)} per rank" if result.run.parallel else number(size)
    return f"{shown} ({'; '.join(facts)})" if facts else shown


def _used(result: FindBatchResult, batch_size: int) -> int:
    """Return the bytes in use at the peak: all of the device that is not free, or those held by the allocator."""
    breakdown = result.breakdown
    if breakdown is not None and breakdown.batch_size == batch_size:
        return breakdown.total_bytes - breakdown.bytes_of(Category.FREE)
    return max((trial.peak_reserved_bytes for trial in result.trials if trial.batch_size == batch_size), default=0)


def _recommended(result: FindBatchResult) -> str:
    """Return the size and its rule: a multiple, or any size below it if no multiple fits."""
    size, accepted = result.recommended_batch_size, result.accepted_sizes
    multiple = result.multiple_of if accepted.remainder else lcm(result.multiple_of, accepted.multiple_of)
    free = f"leaves {100 * result.margin:g} % of memory free" if result.margin else "fits"
    if size is None:
        return f"none (no size that ran {free})"
    rule = "size"
    if size % multiple == 0 and multiple > 1:
        rule = f"multiple of {multiple}"
    elif size < multiple:
        rule = f"size below {multiple}"
    trial, device = _trial_of(result, size), result.run.device
    ends = f", but {until_full(trial, device)}" if trial and trial.growth else ""
    return f"{number(size)} ({'a' if result.limited_by is Limit.TIME else 'largest'} {rule} that {free}{ends})"


def _trial_of(result: FindBatchResult, size: int) -> Measurement | None:
    """Return the last trial of a size that ran."""
    return next((trial for trial in reversed(result.trials) if trial.batch_size == size and trial.fits), None)


def _limited_by(result: FindBatchResult, limit: Limit, largest: int) -> str:
    if limit is Limit.DATASET:
        samples = count(result.run.num_samples or largest, "sample")
        return f"the data set ({samples}{' per rank' if result.run.ranks > 1 else ''}){_beyond(result)}"
    if limit is Limit.MAX_BATCH_SIZE:
        return f"your maximum of {number(largest)}{_beyond(result)}"
    return f"{_LIMITS[limit]}{_failure(result)}{_beyond(result)}"


def _evaluation(result: FindBatchResult, search: SearchResult) -> str:
    """Return the largest size for evaluation and what limits it, in the words of the search for training."""
    if search.max_batch_size is None:
        return "no batch ran to the end"
    if search.limited_by is None:
        return f"{number(search.max_batch_size)} ran before the search was interrupted"
    evaluated = replace(
        result,
        certificate=search.certificate,
        extrapolated_batch_size=search.extrapolated_batch_size,
        accepted_sizes=search.accepted_sizes,
        refused=search.refused,
        trials=search.trials,
        max_batch_size=search.max_batch_size,
    )
    limit = _limited_by(evaluated, search.limited_by, search.max_batch_size)
    return f"{number(search.max_batch_size)}, limited by {limit}"


def _failure(result: FindBatchResult) -> str:
    certificate = result.certificate
    if certificate is None or certificate.smallest_failed is None or certificate.outcome is None:
        return ""
    why = f": {one_line(certificate.message)}" if certificate.outcome is Outcome.ERROR and certificate.message else ""
    end = ended(certificate.outcome, certificate.phase, certificate.rank)
    facts = [f"{number(certificate.smallest_failed)} {end}{why}"]
    if not (accepted := result.accepted_sizes).are_all:
        facts.append(f"of the sizes tried, only {accepted} ran" if result.refused else f"only {accepted} were tried")
    gap = accepted.count_to(certificate.smallest_failed - 1) - accepted.count_to(certificate.largest_ok)
    raised = {trial.batch_size for trial in result.trials if trial.outcome is Outcome.ERROR}
    gap -= sum(certificate.largest_ok < size < certificate.smallest_failed and size in accepted for size in raised)
    if gap > 0:
        facts.append(f"{count(gap, 'size')} between not tried")
    return f" ({'; '.join(facts)})"


def _beyond(result: FindBatchResult) -> str:
    if result.extrapolated_batch_size is None:
        return ""
    rounded = two_digits(result.extrapolated_batch_size)
    # Rounding goes down, but not below the size that ran.
    size = number(rounded if rounded > (result.max_batch_size or 0) else result.extrapolated_batch_size)
    how = "extrapolated" if result.run.device.is_simulated else "extrapolated, not run"
    return f"; memory alone would allow about {size} ({how})"


def _picture(result: FindBatchResult) -> object:
    device, breakdown = result.run.device, result.breakdown
    titles = breakdown_title(breakdown, device) if breakdown else "", trials_title(device), CHART_TITLE
    return charts.search_picture(result.trials, device, titles, breakdown, result.throughput)
