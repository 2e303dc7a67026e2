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
    """What one change of the training would do to the largest batch."""

    name: str
    """Such as "gradient checkpointing, every block"."""
    sets: tuple[str, ...]
    """The change as overrides of the config, such as "train.activation_checkpointing=full"; () for no change."""
    price: str
    """What it costs, in words; "" where nothing is known to speak against it."""
    max_batch_size: int | None = None
    """The largest batch with it; None where nothing fits, or where it could not be tried."""
    pieces: int = 1
    """How many times as many of these batches there are to a step of the optimizer as without it."""
    saved_bytes: int | None = None
    """What it leaves free at `Advice.at_batch_size`, below 0 what it takes; None where that was not measured."""
    saved_from: Category | None = None
    """The row of the breakdown that changes most."""
    compute: float | None = None
    """Floating-point operations a step, as a part of those without it; counted from shapes, predictions only."""
    seconds: float | None = None
    """Seconds a step, as a part of those without it; measured, real trials only."""
    helps: bool = False
    why: str = ""
    """Where it does not help: why."""


@dataclass(frozen=True, kw_only=True)
class AccumulationPlan:
    """How a batch that does not fit, or that is wanted, is made of smaller ones."""

    wanted: int
    micro_batch_size: int | None
    """What is in memory at once; None where even one sample does not fit."""
    accumulate: int = 1
    """Batches to a step of the optimizer."""
    sets: tuple[str, ...] = ()
    """What else has to change."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class LearningRateSuggestion:
    """A learning rate to begin with at another batch size."""

    from_batch_size: int
    """Samples to a step of the optimizer, accumulated ones included; as is `batch_size`."""
    from_rate: float
    batch_size: int
    rate: float
    rule: str
    """"linear" or "square root"."""
    note: str
    """Where the rule is from, and how far it can be trusted."""


@dataclass(frozen=True, kw_only=True)
class GpuEstimate:
    """What one card would hold."""

    name: str
    capacity_bytes: int
    max_batch_size: int | None
    best: OptimizationResult | None
    """With the best combination of changes; None where none helps."""
    why: str = ""
    """Where nothing could be predicted for it: why."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What would let a larger batch fit: the answer of `vram advise`."""

    command: Literal["advise"] = "advise"
    run: RunInfo
    max_batch_size: int | None
    """As the training is; None where nothing fits."""
    at_batch_size: int
    """Where savings are measured: a size that fits as the training is."""
    breakdown: Breakdown | None
    """Of the training as it is, at that size."""
    levers: tuple[OptimizationResult, ...]
    best: OptimizationResult | None = None
    """The combination of changes that gives the largest batch, of those that leave it whole; None where none helps."""
    fit: AccumulationPlan | None = None
    """For `--fit-batch`."""
    effective: AccumulationPlan | None = None
    """For `--effective-batch`."""
    rate: LearningRateSuggestion | None = None
    cards: tuple[GpuEstimate, ...] = ()
    """For `--gpus`."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early: what is not here was not tried. Without levers, `max_batch_size` is the largest
    that had run."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)
