"""The answer of `vram advise`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import SCHEMA_VERSION, Category
from vram_cli.records.run_info import RunInfo

Scaling = Literal["linear", "sqrt", "none"]
"""How a learning rate follows the batch size."""


@dataclass(frozen=True, kw_only=True)
class OptimizationResult:
    """The effect of one change on the largest batch."""

    name: str
    """Such as "gradient checkpointing, every block"."""
    sets: tuple[str, ...]
    """The change as overrides of the config, such as "train.activation_checkpointing=full"; () for no change."""
    price: str
    """The cost in words; "" if none is known."""
    max_batch_size: int | None = None
    """The largest batch with the change; None if nothing fits or it could not be tried."""
    pieces: int = 1
    """Micro-batches per optimizer step, as a multiple of those without the change."""
    saved_bytes: int | None = None
    """Bytes saved at `Advice.at_batch_size`, negative for an increase; None if not measured."""
    saved_from: Category | None = None
    """The row of the breakdown that changes most."""
    compute: float | None = None
    """Floating-point operations per step, relative to no change; counted from shapes, predictions only."""
    seconds: float | None = None
    """Seconds per step, relative to no change; measured, real trials only."""
    helps: bool = False
    why: str = ""
    """The reason, if it does not help."""


@dataclass(frozen=True, kw_only=True)
class AccumulationPlan:
    """A way to train a batch size that does not fit as it is."""

    wanted: int
    micro_batch_size: int | None
    """Samples in memory at once; None if even one sample does not fit."""
    accumulate: int = 1
    """Micro-batches per optimizer step."""
    sets: tuple[str, ...] = ()
    """Further changes that it needs, as overrides."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class LearningRateSuggestion:
    """An initial learning rate for another batch size."""

    from_batch_size: int
    """Samples per optimizer step, accumulated ones included, like `batch_size`."""
    from_rate: float
    batch_size: int
    rate: float
    rule: str
    """"linear" or "square root"."""
    note: str
    """The source of the rule, and its limits."""


@dataclass(frozen=True, kw_only=True)
class GpuEstimate:
    """The largest batch predicted for one GPU."""

    name: str
    capacity_bytes: int
    max_batch_size: int | None
    best: OptimizationResult | None
    """The best combination of changes; None if none helps."""
    why: str = ""
    """The reason, if nothing could be predicted."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What would let a larger batch fit: the answer of `vram advise`."""

    command: Literal["advise"] = "advise"
    run: RunInfo
    max_batch_size: int | None
    """The largest batch without changes; None if nothing fits."""
    at_batch_size: int
    """The batch size at which savings are measured: one that fits without changes."""
    breakdown: Breakdown | None
    """The breakdown without changes, at that size."""
    levers: tuple[OptimizationResult, ...]
    best: OptimizationResult | None = None
    """The combination that gives the largest batch without accumulation; None if none helps."""
    fit: AccumulationPlan | None = None
    """For `--fit-batch`."""
    effective: AccumulationPlan | None = None
    """For `--effective-batch`."""
    rate: LearningRateSuggestion | None = None
    cards: tuple[GpuEstimate, ...] = ()
    """For `--gpus`."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early: the rest was not tried. Without levers, `max_batch_size` is the largest size
    that ran."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)
