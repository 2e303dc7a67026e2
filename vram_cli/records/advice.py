"""The answer of `vram advise`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import SCHEMA_VERSION, Category
from vram_cli.records.measurement import Growth
from vram_cli.records.parallel import Strategy
from vram_cli.records.run_info import RunInfo
from vram_cli.records.shown_in_notebooks import ShownInNotebooks

Scaling = Literal["linear", "sqrt", "none"]
"""How the learning rate scales with the batch size."""


@dataclass(frozen=True, kw_only=True)
class OptimizationResult:
    """The effect of one change, or of a combination of changes, on the largest batch size."""

    name: str
    """Such as "checkpoint every block"."""
    overrides: tuple[str, ...]
    """Overrides of the config that make the change, such as "train.activation_checkpointing=full"."""
    cost: str
    """The cost in words; "" if none is known."""
    max_batch_size: int | None = None
    """The largest batch size with the change; None if nothing fits, or if it could not be tried."""
    micro_batches: int = 1
    """Micro-batches per optimizer step, relative to the training without changes."""
    rank_ratio: float = 1.0
    """Ranks, relative to the training without changes."""
    saved_bytes: int | None = None
    """Memory freed at the peak at `Advice.at_batch_size`, negative if more is used; None if not measured."""
    saved_from: Category | None = None
    """The category of the breakdown that changes most."""
    flops_ratio: float | None = None
    """Floating-point operations per step relative to the training without changes; predictions only, counted from
    shapes."""
    step_time_ratio: float | None = None
    """Time per step relative to the training without changes; real trials only."""
    helps: bool = False
    """Whether the largest batch grows."""
    reason: str = ""
    """If it does not help, the reason."""


@dataclass(frozen=True, kw_only=True)
class AccumulationPlan:
    """How to train with a given batch size: whole, with changes, or in micro-batches."""

    batch_size: int
    """The requested batch size, of all ranks together."""
    micro_batch_size: int | None
    """Samples in memory at once, of one rank; None if not even one fits."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    overrides: tuple[str, ...] = ()
    """Further overrides of the config."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RankPlan:
    """The fewest GPUs that train a batch together with one strategy, without other changes; a prediction."""

    strategy: Strategy | None
    """None for one GPU alone."""
    ranks: int | None
    """GPUs, each with one rank; None if no number of them is enough."""
    batch_size: int | None
    """Samples of each rank; None if no number of GPUs is enough."""
    overrides: tuple[str, ...] = ()
    """Overrides of the config that make the change."""
    reason: str = ""
    """If no number of GPUs is enough, the reason."""


@dataclass(frozen=True, kw_only=True)
class LearningRateSuggestion:
    """A starting point for the learning rate at another batch size."""

    from_batch_size: int
    """Samples per optimizer step in the config, accumulated micro-batches included."""
    from_learning_rate: float
    batch_size: int
    """Samples per optimizer step that the suggestion is for."""
    learning_rate: float
    rule: str
    """"linear" or "square root"."""
    note: str
    """The source of the rule and its limits."""


@dataclass(frozen=True, kw_only=True)
class GpuEstimate:
    """The predicted batch sizes of a GPU of the catalogue."""

    name: str
    capacity_bytes: int
    max_batch_size: int | None
    """The largest batch size without changes; None if nothing fits."""
    best: OptimizationResult | None
    """The best combination of changes; None if none helps."""
    reason: str = ""
    """If nothing could be predicted for it, the reason."""


@dataclass(frozen=True, kw_only=True)
class Advice(ShownInNotebooks):
    """The answer of `vram advise`: the changes that let a larger batch fit."""

    command: Literal["advise"] = "advise"
    run: RunInfo
    max_batch_size: int | None
    """The largest batch size without changes; None if nothing fits."""
    at_batch_size: int
    """The batch size at which savings are measured: one that fits without changes."""
    breakdown: Breakdown | None
    """The breakdown without changes at `at_batch_size`."""
    growth: Growth | None = None
    """The growth of memory from step to step at `at_batch_size`, without changes; None if there is none."""
    optimizations: tuple[OptimizationResult, ...]
    """The changes, each tried on its own."""
    best: OptimizationResult | None = None
    """The combination with the largest batch, gradient accumulation excluded; None if no change helps."""
    fit_batch: AccumulationPlan | None = None
    """The plan for `--fit-batch`."""
    fewest_gpus: tuple[RankPlan, ...] = ()
    """The fewest GPUs of this kind that train the batch of `--fit-batch`, by strategy."""
    effective_batch: AccumulationPlan | None = None
    """The plan for `--effective-batch`."""
    learning_rate: LearningRateSuggestion | None = None
    gpus: tuple[GpuEstimate, ...] = ()
    """The GPUs of `--gpus`."""
    interrupted: bool = False
    """Whether Ctrl-C ended the run early, so that the answer covers only the trials until then. Without any
    `optimizations`, `max_batch_size` is the largest size that had run."""
    notes: tuple[str, ...] = ()
    """Further remarks, one sentence each."""
    schema_version: int = field(default=SCHEMA_VERSION)
