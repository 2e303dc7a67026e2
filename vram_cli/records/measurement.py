"""What a probe says of one batch size, and what a search concludes from many."""

from __future__ import annotations

from dataclasses import dataclass

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import Limit, Outcome, Phase


@dataclass(frozen=True, kw_only=True)
class PhasePeak:
    """The highest memory within one phase, over all steps of a trial."""

    phase: Phase
    allocated_bytes: int
    """Handed out to tensors. Grows smoothly with the batch."""
    reserved_bytes: int
    """Taken from the device by the allocator; it is this that runs out. Grows in lumps."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a probe says of one batch size."""

    batch_size: int
    outcome: Outcome
    phase: Phase | None = None
    """The phase that failed; None where the trial fits, or where nobody can tell (a killed process)."""
    peaks: tuple[PhasePeak, ...] = ()
    """Peaks of the phases that ran, the failing one included as far as it came."""
    resident_bytes: int = 0
    """Allocated as a forward pass begins, without the batch: parameters, buffers, optimizer state, and no gradients
    (`zero_grad` has freed them). What does not grow with the batch; 0 where not known."""
    allocator_retries: int = 0
    """How often the allocator had to give its cache back to go on: above 0, the size runs but thrashes."""
    steps: int = 0
    """Full training steps that ran to the end."""
    seconds: float = 0.0
    """The whole trial, building included."""
    step_seconds: float | None = None
    """The fastest full step; None where none ran."""
    timed_seconds: tuple[float, ...] = ()
    """Of a trial for the clock alone: seconds of each step after those that warm up. Empty for all others."""
    message: str = ""
    """The exception's own words, or what is known of the process's end."""
    traceback: str = ""
    """The formatted traceback, where an exception was raised."""
    requested_bytes: int | None = None
    """What the failing allocation asked for, where the allocator says it."""
    held_bytes: int | None = None
    """What tensors held as that allocation failed, at least."""
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
        """The highest memory handed out to tensors, over all phases; 0 where nothing was measured."""
        return max((peak.allocated_bytes for peak in self.peaks), default=0)

    @property
    def peak_reserved_bytes(self) -> int:
        """The highest memory taken from the device, over all phases; 0 where nothing was measured."""
        return max((peak.reserved_bytes for peak in self.peaks), default=0)

    def shortfall_bytes(self, capacity_bytes: int) -> int | None:
        """Return how much memory a trial that ran out of it was short of, at least; None where that cannot be told.

        What tensors held when it failed, and what the failing allocation asked for, less what there is. Later
        allocations would have asked for more; where only what is no tensor made it too much, it cannot be told.
        """
        if self.outcome is not Outcome.OUT_OF_MEMORY or self.requested_bytes is None or self.held_bytes is None:
            return None
        missing = self.held_bytes + self.requested_bytes - capacity_bytes
        return missing if missing > 0 else None

    def peak_in(self, phase: Phase) -> PhasePeak | None:
        """Return the peak of one phase, or None where it was not measured."""
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
    """The largest size that ran; None where none did."""
    recommended_batch_size: int | None
    """The largest round size that ran and left the margin free; None where there is none."""
    limited_by: Limit | None
    """What stopped the search; None where it was interrupted."""
    certificate: Certificate | None
    """None where nothing ran."""
    trials: tuple[Measurement, ...]
    """Every trial, in the order in which they ran."""
    extrapolated_batch_size: int | None = None
    """What memory alone would allow, by a line through the peaks; never run. Only where another limit came first."""
    notes: tuple[str, ...] = ()
    """One sentence each on what a reader should know: thrashing, a size skipped, a tolerance."""
