"""Records of `vram compare`: the plan, each training run, and a summary per batch size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, FiniteFloat

from vram_cli.records import SCHEMA_VERSION, RunInfo, Scaling

Count = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A results file with figures outside these is refused."""


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """Settings that all runs share. Runs are comparable only if their plans are equal."""

    samples: int
    """Samples drawn from the data set, for training and validation together."""
    holdout: float
    """Fraction of the samples held out for validation; unused if `folds` is above 1."""
    folds: int
    """Folds of the cross-validation; 1 for a single hold-out set."""
    epochs: int
    """Passes over the training samples: the same for every batch size."""
    lr_scaling: Scaling
    """Rule that scales the config's learning rate with the batch size."""
    warmup: float
    """Epochs in which the learning rate rises from the config's to the scaled one."""
    seed: int
    """Random seed for samples, weights and shuffling; repeat r adds r for weights and shuffling."""

    @property
    def num_train_samples(self) -> int:
        """Samples in the training set, at most: folds differ by one."""
        return self.samples - self.num_val_samples

    @property
    def num_val_samples(self) -> int:
        """Samples in the validation set, at least."""
        if self.folds > 1:
            return self.samples // self.folds
        return min(max(1, round(self.samples * self.holdout)), self.samples - 1)


@dataclass(frozen=True, kw_only=True)
class MemoryCheck:
    """Whether training with a batch size fits in memory, measured by a few steps before the runs."""

    batch_size: Count
    fits: bool
    peak_bytes: Count
    """Peak memory reserved by the allocator, for a micro-batch if the batch does not fit; 0 if unknown."""
    message: str = ""
    """How it failed, if it does not fit."""
    micro_batch_size: Count | None = None
    """Samples per micro-batch that fits with gradient accumulation; None if the batch fits, or if no size does."""
    micro_batches: Count = 1
    """Micro-batches per batch."""


@dataclass(frozen=True, kw_only=True)
class NoisePoint:
    """Mean and variance of the gradients of training samples at one point of a run."""

    samples: Count
    """Samples trained on so far."""
    signal: FiniteFloat
    """Squared norm of the mean gradient, |G|^2; unbiased, so it can be negative."""
    variance: FiniteFloat
    """Trace of the covariance of per-sample gradients, tr(S); unbiased."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean training loss over a section of a run."""

    samples: Count
    """Samples trained on by the end of the section."""
    loss: FiniteFloat


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training, from new weights to validation."""

    batch_size: Count
    repeat: Count
    fold: Count
    micro_batches: Count = 1
    """Micro-batches per batch."""
    learning_rate: FiniteFloat
    steps: Count
    """Optimizer steps."""
    samples: Count
    """Samples trained on, counted once per epoch."""
    seconds: Seconds
    """Training time, without validation and gradient noise measurements."""
    loss: FiniteFloat | None = None
    """Mean validation loss per sample; None if training diverged."""
    accuracy: Fraction | None = None
    """Fraction of validation targets predicted correctly; None if the outputs are not class scores."""
    loss_noise: FiniteFloat | None = None
    """Standard deviation of a step's loss around its trend; None if there are too few steps."""
    diverged_at: Count | None = None
    """Step at which the loss became infinite or NaN, which ends the training."""
    curve: tuple[CurvePoint, ...] = ()
    """Training loss."""
    gradient_noise: tuple[NoisePoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MeanStd:
    """Mean and standard deviation over several runs."""

    mean: float
    std: float | None
    """Sample standard deviation; None for a single run."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class BatchSizeSummary:
    """All runs of one batch size. The figures leave out runs that diverged."""

    batch_size: int
    is_full: bool
    """Whether the batch holds the whole training set."""
    memory_check: MemoryCheck | None = None
    """None if the comparison was interrupted before it."""
    runs: int = 0
    """Finished runs."""
    diverged: int = 0
    """Runs that diverged."""
    loss_increased: int = 0
    """Runs whose training loss was higher at the end than at the start."""
    micro_batches: int = 1
    """Micro-batches per batch, with gradient accumulation; 1 if the whole batch fits."""
    learning_rate: float | None = None
    steps_per_epoch: int
    accuracy: MeanStd | None = None
    loss: MeanStd | None = None
    loss_noise: MeanStd | None = None
    noise_scale: float | None = None
    """Gradient noise scale tr(S) / |G|^2 over the second half of training, in samples (McCandlish et al. 2018,
    B_simple); None if it was not measured, or if noise hides the mean gradient."""
    seconds_per_epoch: MeanStd | None = None
    samples_per_second: MeanStd | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answer of `vram compare`."""

    command: str = "compare"
    run: RunInfo
    plan: ComparePlan
    repeats: int
    """Runs per batch size and fold."""
    sizes: tuple[BatchSizeSummary, ...]
    """One summary per batch size, in the requested order."""
    findings: tuple[str, ...] = ()
    """Conclusions from the figures and their limits, one sentence each."""
    noise_exponent: float | None = None
    """Exponent p of the fit loss noise ~ B^p; theory predicts -1/2 at equal weights. None for fewer than 3 sizes."""
    runs: tuple[TrainingRun, ...] = ()
    interrupted: bool = False
    schema_version: int = field(default=SCHEMA_VERSION)
