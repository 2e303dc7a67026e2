"""Throughput by batch size: part of the answer of `vram find-batch --objective throughput`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThroughputPoint:
    """Measured throughput of one batch size: full steps, timed one by one, on a batch that is already on the device.

    Raises:
        ValueError: there are no samples or no steps, or the median is not between the quartiles.
    """

    batch_size: int
    samples: int
    """Samples per optimizer step: the batch size times the gradient accumulation steps."""
    steps: int
    """Timed steps, without warm-up steps."""
    step_seconds: float
    """Median seconds per step."""
    samples_per_second: float
    """`samples` divided by `step_seconds`."""
    q25: float
    """Lower quartile of samples per second: at most a quarter of the steps are slower."""
    q75: float
    """Upper quartile of samples per second: at least half of the steps are between `q25` and `q75`."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.samples, self.steps) < 1:
            raise ValueError(f"no throughput of batch size {self.batch_size} in {self.steps} steps")
        if not 0 < self.q25 <= self.samples_per_second <= self.q75:
            raise ValueError(f"{self.samples_per_second} samples/s are not between {self.q25} and {self.q75}")


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Throughput as a function of the batch size, up to the largest that fits.

    Raises:
        ValueError: it names a size that was not timed.
    """

    points: tuple[ThroughputPoint, ...]
    """One point per timed size, in ascending order."""
    sizes: int
    """Number of sizes to time; more than `points` if timing was interrupted, ran out of time, or a size failed."""
    fastest_batch_size: int
    """The size with the most samples per second."""
    knee_batch_size: int
    """The smallest timed size whose throughput is at most `knee_tolerance` below that of the fastest."""
    knee_tolerance: float
    """A fraction, such as 0.05."""
    tied_with_fastest: tuple[int, ...]
    """Sizes that are as fast as the fastest within the spread: their ranges from `q25` to `q75` overlap."""

    def __post_init__(self) -> None:
        timed = {point.batch_size for point in self.points}
        if untimed := {self.fastest_batch_size, self.knee_batch_size, *self.tied_with_fastest} - timed:
            raise ValueError(f"batch size {min(untimed)} was not timed")

    @property
    def is_noisy(self) -> bool:
        """Whether the steps of the fastest size vary by more than `knee_tolerance`, so that the knee is uncertain."""
        fastest = self.at(self.fastest_batch_size)
        return fastest.q75 - fastest.q25 > self.knee_tolerance * fastest.samples_per_second

    def at(self, batch_size: int) -> ThroughputPoint:
        """Return the point of a timed size."""
        return next(point for point in self.points if point.batch_size == batch_size)
