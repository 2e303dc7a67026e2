"""The first lines of an answer: what was found, what is recommended, and what stopped it."""

from __future__ import annotations

from vram_cli.records import Category, Limit, Outcome, Result
from vram_cli.report.throughput import fastest_words, knee_words
from vram_cli.report.words import count, ended, number, one_line, origin, percent, place, setting, used_of
from vram_cli.units import format_bytes

Lines = list[tuple[str, str]]
"""What is shown in bold, and what follows it; a pair a line."""

_LIMITS = {
    Limit.MEMORY: "memory",
    Limit.KERNEL_LIMIT: "a limit of a kernel, not memory",
    Limit.HOST_MEMORY: "the computer's own RAM",
    Limit.TIME: "the time limit",
    Limit.ERROR: "an error in the training code",
}


def headline(result: Result) -> Lines:
    """Return the answer in one to six lines."""
    if result.command == "breakdown":
        return [_breakdown_line(result)]
    if result.interrupted and result.limited_by is None:
        return [("Interrupted:", _known_so_far(result))]
    if result.max_batch_size is None:
        return [_nothing_fits_line(result)]
    label = "Largest that ran:" if result.limited_by is Limit.TIME else "Largest batch size:"
    lines = [(label, _largest(result, result.max_batch_size)), ("Recommended:", _recommended(result))]
    if result.limited_by is not None:
        lines.append(("Limited by:", _limited_by(result, result.limited_by, result.max_batch_size)))
    if result.throughput is not None:
        so_far = " so far:" if len(result.throughput.points) < result.throughput.sizes else ":"
        lines.append((f"Fastest{so_far}", fastest_words(result.throughput)))
        lines.append((f"Knee{so_far}", knee_words(result.throughput)))
    if result.interrupted:
        lines.append(("Interrupted:", _unmeasured(result)))
    return lines


def _unmeasured(result: Result) -> str:
    """Return what is missing where the search had come to its end."""
    if setting(result.run.config, "search", "objective") != "throughput":
        return "before the memory was accounted for"
    if result.throughput is None:
        return "before a size was timed"
    return f"{number(len(result.throughput.points))} of {count(result.throughput.sizes, 'size')} had been timed"


def _breakdown_line(result: Result) -> tuple[str, str]:
    breakdown = result.breakdown
    if breakdown is None:
        return "Nothing measured:", "the trial left no breakdown"
    used, total = _used(result, breakdown.batch_size), breakdown.total_bytes
    uses = "uses" if result.run.device.kind == "real" else f"is {origin(result.run.device)} to use"
    figures = f"{used_of(used, total)} ({percent(used, total)}) at its peak, {place(breakdown.peak_phase)}"
    return f"Batch size {number(breakdown.batch_size)}", f"{uses} {figures}"


def _nothing_fits_line(result: Result) -> tuple[str, str]:
    if not result.trials:
        return "Nothing measured:", "the search ended before its first trial"
    smallest = min(result.trials, key=lambda trial: trial.batch_size)
    size, end = number(smallest.batch_size), ended(smallest.outcome, smallest.phase)
    why = f": {one_line(smallest.message)}" if smallest.message else ""
    if smallest.outcome is not Outcome.OUT_OF_MEMORY:
        return "Nothing ran to the end:", f"a batch of {size} {end}{why}"
    if result.shortfall_bytes is not None:
        why = f", short by at least {format_bytes(result.shortfall_bytes)}"
    return f"Not even a batch of {size} fits:", f"it {end}{why}"


def _known_so_far(result: Result) -> str:
    ran = max((trial.batch_size for trial in result.trials if trial.fits), default=None)
    failed = min((trial.batch_size for trial in result.trials if not trial.fits), default=None)
    if ran is None and failed is None:
        return "no trial had ended yet"
    return (
        f"{'nothing ran yet' if ran is None else f'largest that ran {number(ran)}'}, "
        f"{'nothing failed yet' if failed is None else f'smallest that failed {number(failed)}'}"
    )


def _used(result: Result, batch_size: int) -> int:
    """Return the bytes used at the peak: all of the device that is not free, or what the allocator held."""
    breakdown = result.breakdown
    if breakdown is not None and breakdown.batch_size == batch_size:
        return breakdown.total_bytes - breakdown.bytes_of(Category.FREE)
    return max((trial.peak_reserved_bytes for trial in result.trials if trial.batch_size == batch_size), default=0)


def _largest(result: Result, size: int) -> str:
    used, capacity = _used(result, size), result.run.device.capacity_bytes
    facts = [f"{used_of(used, capacity)}, {percent(used, capacity)}"] if used else []
    if result.run.device.kind != "real":
        facts.insert(0, origin(result.run.device))
    if any(trial.thrashing for trial in result.trials if trial.batch_size == size):
        facts.append("thrashing")
    return f"{number(size)} ({'; '.join(facts)})" if facts else number(size)


def _recommended(result: Result) -> str:
    """Return the size with the rule that it keeps: a multiple, or any size below where no multiple would do."""
    multiple, margin = (setting(result.run.config, "search", key) for key in ("multiple_of", "margin"))
    free = f"leaves {100 * margin:g} % of memory free" if isinstance(margin, (int, float)) and margin else "fits"
    size = result.recommended_batch_size
    if size is None:
        return f"none (no size that ran {free})"
    rule = "size"
    if isinstance(multiple, int) and multiple > 1:
        rule = f"size below {multiple}" if size % multiple else f"multiple of {multiple}"
    return f"{number(size)} ({'a' if result.limited_by is Limit.TIME else 'largest'} {rule} that {free})"


def _limited_by(result: Result, limit: Limit, largest: int) -> str:
    if limit is Limit.DATASET:
        samples = result.run.data.num_samples if result.run.data and result.run.data.num_samples else largest
        return f"the data set ({count(samples, 'sample')}){_beyond(result)}"
    if limit is Limit.MAX_BATCH_SIZE:
        return f"your own maximum of {number(largest)}{_beyond(result)}"
    return f"{_LIMITS[limit]}{_failure(result)}{_beyond(result)}"


def _failure(result: Result) -> str:
    proof = result.certificate
    if proof is None or proof.smallest_failed is None or proof.outcome is None:
        return ""
    gap = proof.smallest_failed - proof.largest_ok - 1
    between = f"; {count(gap, 'size')} between not tried" if gap > 0 else ""
    return f" ({number(proof.smallest_failed)} {ended(proof.outcome, proof.phase)}{between})"


def _beyond(result: Result) -> str:
    if result.extrapolated_batch_size is None:
        return ""
    size = number(_two_digits(result.extrapolated_batch_size))
    how = "extrapolated, not run" if result.run.device.kind == "real" else "extrapolated"
    return f"; memory alone would allow about {size} ({how})"


def _two_digits(value: int) -> int:
    unit: int = 10 ** max(len(str(value)) - 2, 0)
    return value // unit * unit
