"""How fast batch sizes train: part of the answer of `vram find-batch --objective throughput`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThroughputPoint:
    """How fast one batch size trains, measured: full steps, each timed by itself, on a batch that is there already.

    Raises:
        ValueError: there are no samples or no steps, or the median does not lie between the quartiles.
    """

    batch_size: int
    samples: int
    """Samples to a step of the optimizer: the batch size, times the batches that are accumulated."""
    steps: int
    """Steps that were timed; those that ran before, to warm up, are not among them."""
    step_seconds: float
    """The median of them."""
    samples_per_second: float
    """`samples` by `step_seconds`."""
    low: float
    """Samples per second in the step that a quarter of all, at most, are slower than."""
    high: float
    """In the step that a quarter of all, at most, are faster than: at least half of the steps lie from low to high."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.samples, self.steps) < 1:
            raise ValueError(f"a batch size of {self.batch_size} in {self.steps} steps is no pace")
        if not 0 < self.low <= self.samples_per_second <= self.high:
            raise ValueError(f"{self.samples_per_second} samples/s do not lie between {self.low} and {self.high}")


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How the speed of training follows the batch size, up to the largest that fits.

    Raises:
        ValueError: a size that is named in it was not timed.
    """

    paces: tuple[ThroughputPoint, ...]
    """Of each size that was timed, the smallest first."""
    sizes: int
    """Sizes that were to be timed; more than `paces` where it was interrupted or time was over, or where one failed."""
    fastest_batch_size: int
    """The one with most samples per second."""
    knee_batch_size: int
    """The smallest that was timed whose samples per second are at most `within` below those of the fastest."""
    within: float
    """A share, such as 0.05."""
    as_fast: tuple[int, ...]
    """Sizes that cannot be told from the fastest: half of their steps, and half of its, lie in ranges that overlap."""

    def __post_init__(self) -> None:
        timed = {pace.batch_size for pace in self.paces}
        if strangers := {self.fastest_batch_size, self.knee_batch_size, *self.as_fast} - timed:
            raise ValueError(f"batch size {min(strangers)} was not timed")

    @property
    def is_noisy(self) -> bool:
        """Whether the steps of the fastest vary by more than the knee may be slower: it could well be another."""
        fastest = self.at(self.fastest_batch_size)
        return fastest.high - fastest.low > self.within * fastest.samples_per_second

    def at(self, batch_size: int) -> ThroughputPoint:
        """Return how fast a size trains that was timed."""
        return next(pace for pace in self.paces if pace.batch_size == batch_size)
