"""Several ranks: the batch of all of them together, and which one the figures are of."""

from __future__ import annotations

from vram_cli.records import ParallelInfo, RunInfo
from vram_cli.report import document as doc
from vram_cli.report.words import count, number
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
    return ("ranks", _ranks(parallel)), ("NCCL", _communication(parallel))


def _ranks(parallel: ParallelInfo) -> str:
    strategy = f" with {STRATEGIES[parallel.strategy]}" if parallel.strategy else ""
    most = ": no other holds more" if parallel.strategy else ""
    return f"{number(parallel.ranks)}{strategy}; the figures are of rank {parallel.rank}{most}"


def _communication(parallel: ParallelInfo) -> str:
    if not parallel.communication_bytes:
        return ""
    option = "; --nccl SIZE replaces it" if parallel.strategy else ""
    origin = _SOURCES.format(option) if parallel.is_allowance else "as given"
    return f"{format_bytes(parallel.communication_bytes)} outside PyTorch's allocator ({origin})"
