"""The answers of `vram find-batch` and `vram breakdown`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import SCHEMA_VERSION
from vram_cli.records.measurement import Measurement, SearchResult
from vram_cli.records.run_info import RunInfo
from vram_cli.records.shown_in_notebooks import ShownInNotebooks
from vram_cli.records.throughput import Throughput


@dataclass(frozen=True, kw_only=True)
class FindBatchResult(SearchResult, ShownInNotebooks):
    """The answer of `vram find-batch`: the result of a search and the run that it belongs to.

    Raises:
        ValueError: `multiple_of` is not a number to count in.
    """

    command: Literal["find-batch"] = "find-batch"
    run: RunInfo
    multiple_of: int = 1
    """The recommended size is a multiple of this, if any multiple fits."""
    margin: float = 0.0
    """The share of memory that the recommended size leaves free."""
    breakdown: Breakdown | None = None
    """At the largest size, or at the nearest size below it that could be measured."""
    throughput: Throughput | None = None
    """How fast sizes up to the largest train; only if `search.objective` asks for it and a size was timed."""
    evaluation: SearchResult | None = None
    """The search for the largest batch in evaluation; None if none was asked for."""
    validation: Measurement | None = None
    """The script's validation after training steps at the largest size, with its peak; None if it has none, or if the
    trial was not run."""
    shortfall_bytes: int | None = None
    """If nothing fits: the memory that the smallest batch lacked when it failed, at least."""
    global_batch_size: int | None = None
    """If several ranks train together: samples of one optimizer step at the largest size, of all ranks and accumulated
    micro-batches."""
    interrupted: bool = False
    """Whether Ctrl-C ended the search early: the figures are those known by then."""
    schema_version: int = field(default=SCHEMA_VERSION)

    def __post_init__(self) -> None:
        if self.multiple_of < 1:
            raise ValueError(f"no size is a multiple of {self.multiple_of}")


@dataclass(frozen=True, kw_only=True)
class BreakdownResult(ShownInNotebooks):
    """The answer of `vram breakdown`: one batch size, measured or predicted."""

    command: Literal["breakdown"] = "breakdown"
    run: RunInfo
    measurement: Measurement
    """The trial, without its breakdown."""
    breakdown: Breakdown | None = None
    needed: Breakdown | None = None
    """If the batch does not fit: what it would take, predicted for the same GPU with more memory; its total is what it
    uses. None if that cannot be predicted."""
    shortfall_bytes: int | None = None
    """If the batch does not fit: the memory that it lacked when it failed, at least."""
    global_batch_size: int | None = None
    """If several ranks train together: samples of one optimizer step, of all ranks and accumulated micro-batches."""
    notes: tuple[str, ...] = ()
    """Things to know about the figures, one sentence each."""
    schema_version: int = field(default=SCHEMA_VERSION)
