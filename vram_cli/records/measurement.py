"""The measurement of one batch size, and the result of a search over many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vram_cli.records.batch_sizes import BatchSizes
from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import Limit, Outcome, Phase


@dataclass(frozen=True, kw_only=True)
class PhasePeak:
    """The highest memory within one phase, over all steps of a trial."""

    phase: Phase
    allocated_bytes: int
    """Allocated to tensors. Grows smoothly with the batch."""
    reserved_bytes: int
    """Reserved by the allocator: the memory that runs out. Grows in blocks."""


@dataclass(frozen=True, kw_only=True)
class HostRead:
    """A read of GPU memory by the host in a prediction on the virtual GPU, where kernels compute nothing."""

    line: str
    """"file:line" of the innermost Python code outside PyTorch and other packages; "" if there is none."""
    bytes: int
    count: int
    """How often it was read in the trial."""
    value: Literal["computed", "kept", "size", "most"]
    """computed: only a kernel could have computed it; 0 was assumed, or for a boolean that all is well. kept: what the
    host had copied there, which a kernel may have changed since. size: how many elements `nonzero`, a boolean mask or
    `unique` found, on which the size of a tensor depends; 0 was assumed. most: how many there are of elements
    that a mask selects, or of distinct rows of a sparse tensor; all were assumed, which takes the most memory."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Memory that grows from step to step at one batch size, such as by losses that are kept with their graphs."""

    bytes_per_step: int
    """Bytes by which the memory of tensors grows per step, on average."""
    steps: int
    """Steps over which it was seen."""
    phase: Phase | None = None
    """The phase that allocates most of what stays; None if not known."""
    modules: tuple[str, ...] = ()
    """The modules that allocate most of what stays, the largest first; empty if that happens outside of modules."""
    is_garbage: bool = False
    """Whether it is in reference cycles, which stay until Python collects garbage."""


@dataclass(frozen=True, kw_only=True)
class RankResult:
    """The trial of one of several ranks that ran together."""

    rank: int
    outcome: Outcome | None
    """None if it failed, or was ended, only because another rank had failed."""
    phase: Phase | None = None
    """The phase that failed, or in which it waited for the rank that had failed."""
    peaks: tuple[PhasePeak, ...] = ()
    allocator_bytes: int = 0
    """Memory of its device that its allocator may reserve."""
    message: str = ""
    """The message of its exception, or how its process ended."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of one trial: a batch size, its outcome and its memory."""

    batch_size: int
    outcome: Outcome
    phase: Phase | None = None
    """The phase that failed; None if the trial fits, or if it is not known (a killed process)."""
    peaks: tuple[PhasePeak, ...] = ()
    """Peaks of the phases that ran, including the failed one up to the failure."""
    resident_bytes: int = 0
    """Allocated at the start of a forward pass, without the batch: parameters, buffers and optimizer state, but no
    gradients (`zero_grad` has freed them). Independent of the batch size; 0 if not known."""
    allocator_retries: int = 0
    """Number of times that the allocator had to release its cache: above 0, the size runs but thrashes."""
    steps: int = 0
    """Number of completed steps."""
    seconds: float = 0.0
    """Duration of the whole trial, including building the model."""
    step_seconds: float | None = None
    """The fastest completed step; None if none was completed."""
    timed_seconds: tuple[float, ...] = ()
    """Seconds of each step after warm-up, in a trial with `Detail.TIMES`; empty in all others."""
    message: str = ""
    """The message of the exception, or how the process ended."""
    traceback: str = ""
    """The formatted traceback, if an exception was raised."""
    requested_bytes: int | None = None
    """Size of the failed allocation, if the allocator reports it."""
    held_bytes: int | None = None
    """Memory allocated to tensors when it failed, at least."""
    flops: int | None = None
    """Floating-point operations of one step in matrix products, convolutions and attention, if the step was tracked;
    counted from shapes (torch.utils.flop_counter), a multiplication and its addition are two."""
    breakdown: Breakdown | None = None
    growth: Growth | None = None
    """None if memory does not grow from step to step."""
    notes: tuple[str, ...] = ()
    """Remarks on the training, one sentence each, such as which part of the model's output is the loss."""
    expected_largest: int | None = None
    """Predictions with fake tensors: the largest size that fits if every allocation is on the line through two
    simulated sizes; None if they are on no line. It was not simulated."""
    reads: tuple[HostRead, ...] = ()
    """Predictions on the virtual GPU: values that the training read and that only a GPU knows."""
    rank: int | None = None
    """The rank that the figures are of, of several that ran: the one with the least room, or that failed."""
    ranks: tuple[RankResult, ...] = ()
    """Every rank, if several ran."""
    writes: tuple[str, ...] = ()
    """What a script wrote, made, removed, started or connected to, one line each; empty if it did none of that."""

    @property
    def fits(self) -> bool:
        """Whether all steps ran to the end."""
        return self.outcome is Outcome.FITS

    @property
    def thrashing(self) -> bool:
        """Whether it ran only because the allocator released its cache."""
        return self.fits and self.allocator_retries > 0

    @property
    def peak_allocated_bytes(self) -> int:
        """The highest allocated memory over all phases; 0 if nothing was measured."""
        return max((peak.allocated_bytes for peak in self.peaks), default=0)

    @property
    def peak_reserved_bytes(self) -> int:
        """The highest reserved memory over all phases; 0 if nothing was measured."""
        return max((peak.reserved_bytes for peak in self.peaks), default=0)

    def shortfall_bytes(self, capacity_bytes: int) -> int | None:
        """Return the memory that a trial lacked when it ran out of memory, at least; None if not known.

        The memory of tensors plus the failed allocation, minus the capacity. Later allocations would have needed more.
        Not known if only memory outside tensors exceeded the capacity.
        """
        if self.outcome is not Outcome.OUT_OF_MEMORY or self.requested_bytes is None or self.held_bytes is None:
            return None
        missing = self.held_bytes + self.requested_bytes - capacity_bytes
        return missing if missing > 0 else None

    def peak_in(self, phase: Phase) -> PhasePeak | None:
        """Return the peak of a phase; None if it was not measured."""
        return next((peak for peak in self.peaks if peak.phase is phase), None)


@dataclass(frozen=True)
class Bracket:
    """The range of the answer: at least `largest_ok` and below `smallest_failed`."""

    largest_ok: int
    """The largest size that ran; 0 if none did."""
    smallest_failed: int | None
    """The smallest size above it that failed; None if none did."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The proof of an answer: `largest_ok` ran to the end, `smallest_failed` did not."""

    largest_ok: int
    """The largest size that ran."""
    steps: int
    """Full steps that `largest_ok` ran."""
    smallest_failed: int | None = None
    """The smallest size above it that failed, the next one that the training accepts if exact; None if an upper bound
    came first."""
    outcome: Outcome | None = None
    """How `smallest_failed` ended."""
    phase: Phase | None = None
    """The phase in which `smallest_failed` ended."""
    rank: int | None = None
    """The rank in which `smallest_failed` ended, of several that ran."""
    message: str = ""
    """The message of the exception that ended `smallest_failed`."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A size that the training refuses for a reason other than memory, though a larger one may run."""

    batch_size: int
    message: str
    """The message of its exception."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a search. Every size named here has run to the end, except `extrapolated_batch_size`."""

    max_batch_size: int | None
    """The largest size that ran; None if none did."""
    recommended_batch_size: int | None
    """The largest size that ran, is a multiple and leaves the margin free; None if there is none."""
    limited_by: Limit | None
    """The limit that ended the search; None if it was interrupted."""
    certificate: Certificate | None
    """None if nothing ran."""
    trials: tuple[Measurement, ...]
    """All trials, in order."""
    extrapolated_batch_size: int | None = None
    """The size that memory alone would allow, extrapolated linearly from the peaks and not run; None if memory is the
    limit."""
    accepted_sizes: BatchSizes = field(default_factory=BatchSizes)
    """The sizes that the training accepts, as far as its errors show: a size that it refuses is not the limit."""
    refused: Refusal | None = None
    """The refused size that is nearest to the answer, of those tried; None if there is none."""
    notes: tuple[str, ...] = ()
    """Further remarks, one sentence each, such as on thrashing, skipped sizes or a tolerance."""
