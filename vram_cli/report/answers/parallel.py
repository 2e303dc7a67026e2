"""Several ranks: the batch of all of them together, and each of them."""

from __future__ import annotations

from vram_cli.records import Measurement, ParallelInfo, RankResult, RunInfo
from vram_cli.report import document as doc
from vram_cli.report.words import OUTCOME_LABELS, count, number, percent, place
from vram_cli.units import format_bytes

STRATEGIES = {"ddp": "DDP", "fsdp2": "FSDP2"}

_SOURCES = (
    "an allowance: 544 MiB for a group of 2 and 688 MiB for a larger one were measured on 4 A100 with NVLink "
    "(NVIDIA/nccl#964), other reports go from 0.5 to 4.3 GiB{}"
)


def global_batch(run: RunInfo, batch_size: int) -> tuple[doc.Line, ...]:
    """Return the samples of an optimizer step and its factors, if there are several ranks."""
    parallel, samples = run.parallel, run.global_batch_size(batch_size)
    if parallel is None or samples is None:
        return ()
    factors = [f"{number(batch_size)} per rank", count(parallel.ranks, "rank")]
    factors += [f"{number(parallel.micro_batches)} accumulated"] if parallel.micro_batches > 1 else []
    return (("Global batch:", f"{number(samples)} ({' x '.join(factors)})"),)


def parallel_lines(run: RunInfo) -> tuple[doc.Line, ...]:
    """Return how ranks train together, and where the figure of NCCL's own memory is from."""
    parallel = run.parallel
    if parallel is None:
        return ()
    predicted = run.device.is_simulated
    communication = _communication(parallel, is_predicted=predicted)
    return ("ranks", _ranks(parallel, is_predicted=predicted)), ("NCCL", communication)


def ranks_table(measurement: Measurement | None) -> tuple[doc.Table, ...]:
    """Return the peak of each rank, if several were measured."""
    if measurement is None or not measurement.ranks:
        return ()
    columns = (
        doc.Column("rank"),
        doc.Column("outcome", "words"),
        *map(doc.Column, ("allocated", "reserved", "of", "share")),
    )
    rows = tuple(_row(each, is_speaker=each.rank == measurement.rank) for each in measurement.ranks)
    title = f"Peak memory of each rank at batch size {number(measurement.batch_size)} (measured)"
    why = "has the least room" if measurement.fits else "failed"
    caption = f"All other figures are those of rank {measurement.rank}, which {why}."
    return (doc.Table(title, columns, rows, caption=caption),)


def _row(result: RankResult, *, is_speaker: bool) -> doc.Row:
    reserved = max((peak.reserved_bytes for peak in result.peaks), default=0)
    allocated = max((peak.allocated_bytes for peak in result.peaks), default=0)
    outcome = "waited" if result.outcome is None else OUTCOME_LABELS[result.outcome]
    sizes = (format_bytes(allocated), format_bytes(reserved)) if result.peaks else ("-", "-")
    share = percent(reserved, result.allocator_bytes) if result.peaks else "-"
    cells = (
        number(result.rank),
        f"{outcome} {place(result.phase)}".rstrip(),
        *sizes,
        format_bytes(result.allocator_bytes),
        share,
    )
    return doc.Row(cells, style="bold" if is_speaker else "")


def _ranks(parallel: ParallelInfo, *, is_predicted: bool) -> str:
    strategy = f" with {STRATEGIES[parallel.strategy]}" if parallel.strategy else ""
    ranks = f"{number(parallel.ranks)}{strategy}"
    most = ": no other holds more" if parallel.strategy else ""
    return f"{ranks}; the figures are of rank {parallel.rank}{most}" if is_predicted else ranks


def _communication(parallel: ParallelInfo, *, is_predicted: bool) -> str:
    if not parallel.communication_bytes:
        return ""
    option = "; --nccl SIZE replaces it" if parallel.strategy else ""
    origin = _SOURCES.format(option) if parallel.is_allowance else "as given" if is_predicted else "measured"
    return f"{format_bytes(parallel.communication_bytes)} outside PyTorch's allocator ({origin})"
