"""The answer of `vram compare`: what each batch size does to training, run by run and side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from vram_cli.records import SCHEMA_VERSION, RunInfo, Scaling


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """What is trained, besides the batch sizes and how often: two runs can be compared only where it is the same."""

    samples: int
    """Of the data set, chosen by the seed; hold-out and training samples together."""
    holdout: float
    """Share of them that is never trained on; without folds."""
    folds: int
    """1 for a hold-out; K for K runs, each validated on another K-th of the samples."""
    epochs: int
    """Passes over the training samples: every size sees the same number of images."""
    scaling: Scaling
    """How the config's learning rate follows the batch size."""
    warmup: float
    """Epochs over which a raised learning rate is reached, from the config's own."""
    seed: int
    """Of the samples, the weights and the order; repeat r adds r to the last two."""

    @property
    def trained(self) -> int:
        """Samples that a run trains on, at most: folds differ by one."""
        return self.samples - self.validated

    @property
    def validated(self) -> int:
        """Samples that a run is validated on, at least."""
        if self.folds > 1:
            return self.samples // self.folds
        return min(max(1, round(self.samples * self.holdout)), self.samples - 1)


@dataclass(frozen=True, kw_only=True)
class MemoryCheck:
    """Whether a batch size trains within the device's memory: some steps that were measured before any run."""

    batch_size: int
    fits: bool
    peak_bytes: int
    """Reserved by the allocator at the peak, of a part where the whole does not fit; 0 where that is not known."""
    message: str = ""
    """Where it does not fit: how it failed."""
    part: int | None = None
    """Where it does not fit: samples of a part of it that does, with the gradients of `parts` added up."""
    parts: int = 1


@dataclass(frozen=True, kw_only=True)
class NoisePoint:
    """Gradients at one point of a run, of groups of training samples: what they share, and what sets them apart."""

    images: int
    """Seen until then."""
    signal: float
    """Squared norm of the mean gradient, |G|^2, without bias: it may come out below 0."""
    variance: float
    """Trace of the covariance of single samples' gradients, tr(S), without bias."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The training loss over a stretch of a run."""

    images: int
    """Seen by the end of the stretch."""
    loss: float
    """Mean over its steps."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, from fresh weights to the validation."""

    batch_size: int
    repeat: int
    fold: int
    parts: int = 1
    """In how many a batch was trained."""
    learning_rate: float
    steps: int
    """Of the optimizer."""
    images: int
    """Trained on, those of later epochs counted again."""
    seconds: float
    """Of training alone: no validation, no look at gradients."""
    loss: float | None = None
    """On the validation samples, mean of a sample; None where training diverged."""
    accuracy: float | None = None
    """Share of targets that the largest output names; None where outputs are no scores of classes."""
    loss_noise: float | None = None
    """Deviation of a step's loss from its trend; None for too few steps to tell."""
    diverged_at: int | None = None
    """The step whose loss was no longer finite; training ended there."""
    curve: tuple[CurvePoint, ...] = ()
    noise: tuple[NoisePoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MeanStd:
    """A figure over several runs."""

    mean: float
    deviation: float | None
    """Standard deviation of a run; None for a single one."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class BatchSizeSummary:
    """One batch size, over all its runs."""

    batch_size: int
    is_full: bool
    """Whether each step sees all training samples."""
    fit: MemoryCheck | None = None
    """None where it was not measured before Ctrl-C."""
    runs: int = 0
    """That are finished."""
    diverged: int = 0
    """Of them, how many lost their way; the figures are those of the others."""
    rose: int = 0
    """Of them, how many ended with a training loss above the one that they began with."""
    parts: int = 1
    """In how many a batch was trained, gradients added up, since it does not fit whole."""
    learning_rate: float | None = None
    steps_per_epoch: int
    accuracy: MeanStd | None = None
    loss: MeanStd | None = None
    loss_noise: MeanStd | None = None
    noise_scale: float | None = None
    """tr(S) / |G|^2 over the second half of training, in samples (McCandlish et al. 2018, B_simple); None where the
    mean gradient is lost in the noise, or nothing was measured."""
    seconds_per_epoch: MeanStd | None = None
    images_per_second: MeanStd | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answer of `vram compare`."""

    command: str = "compare"
    run: RunInfo
    plan: ComparePlan
    repeats: int
    sizes: tuple[BatchSizeSummary, ...]
    """In the order in which they were asked for."""
    findings: tuple[str, ...] = ()
    """What the figures say, and what they do not; a sentence each."""
    noise_exponent: float | None = None
    """p of the fit loss noise ~ B^p; theory says -1/2 for sizes at the same weights. None for fewer than 3 sizes."""
    runs: tuple[Run, ...] = ()
    interrupted: bool = False
    schema_version: int = field(default=SCHEMA_VERSION)
