"""A training step's memory as a formula, for searches without a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from vram_cli.progress import Progress
from vram_cli.records import Bracket, Measurement, Outcome, Phase, PhasePeak, ThroughputPoint

MIB = 2**20
BLOCK = 512
"""The caching allocator rounds every tensor up to a multiple of this."""


@dataclass
class FakeMemory:
    """A measuring function: forward and backward take resident + n * sample bytes, the optimizer a constant.

    Attributes:
        gradient_bytes: part of the resident bytes that is not allocated in forward and at the peak of backward.
        optimizer_bytes: peak of the optimizer step.
        granularity_bytes: reserved bytes are multiples of this.
        workspace_bytes: maximum of a workspace in backward that varies at random with the batch size.
        unseen_bytes: scratch memory per sample that only the out-of-memory error shows.
        sizes: the batch sizes of all trials, in order.
    """

    capacity_bytes: int
    resident_bytes: int
    sample_bytes: int
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    granularity_bytes: int = BLOCK
    workspace_bytes: int = 0
    unseen_bytes: int = 0
    seed: int = 0
    grows_like: Callable[[int], float] = float
    """The samples that the memory of a batch is worth: the batch size itself, or another growth."""
    sizes: list[int] = field(default_factory=list)

    def __call__(self, batch_size: int) -> Measurement:
        self.sizes.append(batch_size)
        peaks, scratch = self.peaks(batch_size), batch_size * self.unseen_bytes
        failed = next((peak for peak in peaks if peak.reserved_bytes + scratch > self.capacity_bytes), None)
        return Measurement(
            batch_size=batch_size,
            outcome=Outcome.OUT_OF_MEMORY if failed else Outcome.FITS,
            phase=failed.phase if failed else None,
            peaks=() if failed and not scratch else peaks,
            requested_bytes=scratch if failed and scratch else None,
            held_bytes=failed.allocated_bytes if failed and scratch else None,
            resident_bytes=self.resident_bytes,
            steps=0 if failed else 3,
        )

    def peaks(self, batch_size: int) -> tuple[PhasePeak, ...]:
        activations = int(self.grows_like(batch_size) * self.sample_bytes)
        early = self.resident_bytes - self.gradient_bytes + activations
        late = self.resident_bytes + activations // 64
        workspace = Random(f"{self.seed}/{batch_size}").randrange(self.workspace_bytes + 1)
        sizes = (early, max(early, late) + workspace, max(self.optimizer_bytes, self.resident_bytes))
        peaks: list[PhasePeak] = []
        for phase, size in zip((Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER), sizes, strict=True):
            allocated = round_up(size, BLOCK)
            # Reserved memory stays reserved in later phases.
            reserved = max(round_up(allocated, self.granularity_bytes), peaks[-1].reserved_bytes if peaks else 0)
            peaks.append(PhasePeak(phase=phase, allocated_bytes=allocated, reserved_bytes=reserved))
        return tuple(peaks)


SHAPES = ("smooth", "2 MiB", "20 MiB", "optimizer", "gradients", "workspace")
"""Shapes of memory for `limited_to`; all but "workspace" are monotone."""


def limited_to(largest: int, shape: str = "smooth", sample_bytes: int = 10_000) -> FakeMemory:
    """Return memory in which exactly `largest` fits (for "workspace", approximately)."""
    activations = (largest + 1) * sample_bytes
    resident = round_up(max(activations // 10, 40 * MIB), BLOCK)
    plain = FakeMemory(capacity_bytes=0, resident_bytes=resident, sample_bytes=sample_bytes)
    if shape in ("2 MiB", "20 MiB"):
        plain = replace(plain, granularity_bytes=int(shape.split(maxsplit=1)[0]) * MIB)
    if shape == "optimizer":
        plain = replace(plain, optimizer_bytes=resident + activations // 2)
    if shape == "gradients":
        plain = replace(plain, gradient_bytes=min(resident // 3, largest * sample_bytes // 2))
    if shape == "workspace":
        plain = replace(plain, granularity_bytes=2 * MIB, workspace_bytes=activations // 50)
    return _with_limit(plain, largest)


def _with_limit(memory: FakeMemory, largest: int) -> FakeMemory:
    """Set the capacity so that `largest` is the limit, and the resident bytes so that a granule ends there."""
    granularity = memory.granularity_bytes
    at_limit = memory.resident_bytes - memory.gradient_bytes + largest * memory.sample_bytes
    resident = memory.resident_bytes + round_up(at_limit, granularity) - at_limit
    capacity = round_up(at_limit, granularity)
    return replace(memory, resident_bytes=resident, capacity_bytes=capacity, sizes=[])


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


class RecordingProgress(Progress):
    """Records everything that is reported."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.notes: list[str] = []
        self.started: list[tuple[int, Bracket]] = []
        self.finished: list[tuple[Measurement, Bracket]] = []
        self.points: list[ThroughputPoint] = []

    def status(self, text: str) -> None:
        self.statuses.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_started(self, batch_size: int, bracket: Bracket) -> None:
        self.started.append((batch_size, bracket))

    def trial_finished(self, measurement: Measurement, bracket: Bracket) -> None:
        self.finished.append((measurement, bracket))

    def timed(self, point: ThroughputPoint) -> None:
        self.points.append(point)
