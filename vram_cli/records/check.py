"""The answer of `vram check`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from vram_cli.records.enums import SCHEMA_VERSION, Category
from vram_cli.records.results import Result


@dataclass(frozen=True, kw_only=True)
class CheckLimits:
    """What `vram check` allows."""

    max_memory_bytes: int | None = None
    """Most that PyTorch's allocator may reserve; None for what the device has."""
    tolerance: float = 0.0
    """By which part of the baseline's peak the peak may grow."""


class FindingKind(str, Enum):
    """How a training breaks a limit."""

    DOES_NOT_FIT = "does_not_fit"
    """It ran out of memory."""
    ABOVE_LIMIT = "above_limit"
    """The reserved peak is above `CheckLimits.max_memory_bytes`."""
    GREW = "grew"
    """The peak is above the baseline's by more than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One limit that is broken."""

    kind: FindingKind
    counter: str = "reserved"
    """"reserved", or "allocated" where tensors hold more and what is reserved for them hides it, as its lumps do."""
    bytes: int
    """The peak; where it does not fit, what it would take at least, with what lies outside the allocator."""
    allowed_bytes: int
    before_bytes: int | None = None
    """The baseline's peak, where that is the limit."""

    @property
    def excess_bytes(self) -> int:
        """How far the peak is above what is allowed."""
        return self.bytes - self.allowed_bytes


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """A row of the breakdown at the peak, in the baseline and now."""

    category: Category
    before: int
    now: int

    @property
    def growth(self) -> int:
        """Bytes that came; below 0, that went."""
        return self.now - self.before


@dataclass(frozen=True, kw_only=True)
class ModuleChange:
    """What a module holds beside its parts at the peak, in the baseline and now.

    A module that the baseline does not have counts with all that is in it, as does one that is gone.
    """

    path: str
    """As in `named_modules`; "" for what belongs to no part of the model."""
    before: int
    now: int
    category: Category
    """The row that changed most in it."""
    category_growth: int
    new: bool = False
    """Whether the baseline has no such module."""

    @property
    def growth(self) -> int:
        """Bytes that came; below 0, that went."""
        return self.now - self.before


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """The highest memory of a step."""

    reserved_bytes: int
    """Taken from the device by PyTorch's allocator: what is gated, since it is this that runs out."""
    allocated_bytes: int
    """Handed out to tensors."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The answer of `vram check`."""

    command: str = "check"
    result: Result
    """What was measured or predicted. Where a prediction does not fit, its breakdown is of a device that has
    just what it takes."""
    limits: CheckLimits
    peak: PeakMemory | None
    """None where it did not fit and nobody knows what it would take."""
    baseline_name: str = ""
    """The baseline's file; "" where there is none."""
    baseline_peak: PeakMemory | None = None
    findings: tuple[Finding, ...] = ()
    """What does not fit first, then by how far they are above their limits, the farthest first."""
    rows: tuple[RowChange, ...] = ()
    """The rows that make up what is reserved, the largest growth first; empty where there is nothing to compare."""
    modules: tuple[ModuleChange, ...] = ()
    """The modules that changed, the largest growth first."""
    remarks: tuple[str, ...] = ()
    """One sentence each on what a reader should know besides."""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def passed(self) -> bool:
        """Whether no limit is broken."""
        return not self.findings
