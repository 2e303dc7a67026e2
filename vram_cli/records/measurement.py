"""The measurement of one batch size, and the result of a search over many."""

from __future__ import annotations

from dataclasses import dataclass

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import Limit, Outcome, Phase


@dataclass(frozen=True, kw_only=True)
class PhasePeak:
    """The highest memory within one phase, over all steps of a trial."""

    phase: Phase
    allocated_bytes: int
    """Allocated to tensors. Grows smoothly with the batch."""
    reserved_bytes: int
    """Reserved from the device by the allocator; this is what runs out. Grows in steps."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of one trial."""

    batch_size: int
    outcome: Outcome
    phase: Phase | None = None
    """The phase that failed; None if the trial fits, or if it is not known (a killed process)."""
    peaks: tuple[PhasePeak, ...] = ()
    """Peaks of the phases that ran, the failing one included as far as it came."""
    resident_bytes: int = 0
    """Allocated as a forward pass begins, without the batch: parameters, buffers, optimizer state, and no gradients
    (`zero_grad` has freed them). The part that does not grow with the batch; 0 if not known."""
    allocator_retries: int = 0
    """How often the allocator had to give its cache back to go on: above 0, the size runs but thrashes."""
    steps: int = 0
    """Full training steps that ran to the end."""
    seconds: float = 0.0
    """The whole trial, building included."""
    step_seconds: float | None = None
    """Seconds of the fastest full step; None if none ran."""
    timed_seconds: tuple[float, ...] = ()
    """Of a trial for the clock alone: seconds of each step after those that warm up. Empty for all others."""
    message: str = ""
    """The exception's message, or how the process ended."""
    traceback: str = ""
    """The formatted traceback, if an exception was raised."""
    requested_bytes: int | None = None
    """Size of the allocation that failed, if the allocator reports it."""
    held_bytes: int | None = None
    """Bytes held by tensors when that allocation failed, at least."""
    flops: int | None = None
    """Predictions: floating-point operations of one step in matrix products, convolutions and attention, counted from
    shapes (torch.utils.flop_counter); a multiplication and its addition are two."""
    breakdown: Breakdown | None = None

    @property
    def fits(self) -> bool:
        """Whether all steps ran to the end."""
        return self.outcome is Outcome.FITS

    @property
    def thrashing(self) -> bool:
        """Whether it ran only because the allocator gave its cache back on the way."""
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
        """Return the memory that a trial lacked when it failed, at least; None if that is not known.

        What tensors held when it failed, and what the failing allocation asked for, less what there is. Later
        allocations would have needed more. If only memory outside tensors made it fail, the shortfall is not known.
        """
        if self.outcome is not Outcome.OUT_OF_MEMORY or self.requested_bytes is None or self.held_bytes is None:
            return None
        missing = self.held_bytes + self.requested_bytes - capacity_bytes
        return missing if missing > 0 else None

    def peak_in(self, phase: Phase) -> PhasePeak | None:
        """Return the peak of one phase, or None if it was not measured."""
        return next((peak for peak in self.peaks if peak.phase is phase), None)


@dataclass(frozen=True)
class Bracket:
    """The sizes that the answer is between: at least `largest_ok` and below `smallest_failed`."""

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
    """The smallest size above it that failed, `largest_ok` + 1 if exact; None if an upper bound came first."""
    outcome: Outcome | None = None
    """How `smallest_failed` ended."""
    phase: Phase | None = None
    """The phase in which `smallest_failed` ended."""
    message: str = ""
    """The message of the exception that ended `smallest_failed`."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found. Every size named here has run to the end, except `extrapolated_batch_size`."""

    max_batch_size: int | None
    """The largest size that ran; None if none did."""
    recommended_batch_size: int | None
    """The largest size that ran, keeps the multiple and leaves the margin free; None if there is none."""
    limited_by: Limit | None
    """The limit that ended the search; None if it was interrupted."""
    certificate: Certificate | None
    """None if nothing ran."""
    trials: tuple[Measurement, ...]
    """Every trial, in the order in which they ran."""
    extrapolated_batch_size: int | None = None
    """The size that memory alone would allow, extrapolated from the peaks, never run; only if another limit applied."""
    notes: tuple[str, ...] = ()
    """Remarks such as thrashing, a skipped size or a tolerance, one sentence each."""
