"""The answer of `vram check`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from vram_cli.records.enums import SCHEMA_VERSION, Category
from vram_cli.records.results import BreakdownResult
from vram_cli.records.shown_in_notebooks import ShownInNotebooks


@dataclass(frozen=True, kw_only=True)
class CheckLimits:
    """The limits that `vram check` enforces."""

    max_memory_bytes: int | None = None
    """The most that PyTorch's allocator may reserve; None for all that the device has."""
    tolerance: float = 0.0
    """The allowed growth over the baseline's peak, as a share of it."""


class FindingKind(str, Enum):
    """A kind of broken limit."""

    DOES_NOT_FIT = "does_not_fit"
    """The training ran out of memory."""
    ABOVE_LIMIT = "above_limit"
    """The reserved peak is above `CheckLimits.max_memory_bytes`."""
    GREW = "grew"
    """The peak exceeds the baseline's by more than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken limit."""

    kind: FindingKind
    counter: str = "reserved"
    """"reserved", or "allocated" if only that grew: reserved memory grows in blocks, which may hide it."""
    bytes: int
    """The peak; if it does not fit, the least that it would take, memory outside the allocator included."""
    allowed_bytes: int
    baseline_bytes: int | None = None
    """The baseline's peak, if that is the limit."""

    @property
    def excess_bytes(self) -> int:
        """Bytes by which the peak exceeds the limit."""
        return self.bytes - self.allowed_bytes


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """A category at the peak: its bytes in the baseline and in this run."""

    category: Category
    baseline_bytes: int
    bytes: int

    @property
    def growth(self) -> int:
        """Bytes added; negative if memory was freed."""
        return self.bytes - self.baseline_bytes


@dataclass(frozen=True, kw_only=True)
class ModuleChange:
    """The memory of a module without its submodules at the peak, in the baseline and in this run.

    A module that only one of the two has counts with its submodules.
    """

    path: str
    """As in `named_modules`; "" for memory that belongs to no module."""
    baseline_bytes: int
    bytes: int
    category: Category
    """The category that changed most in it."""
    category_growth: int
    new: bool = False
    """Whether the baseline lacks the module."""

    @property
    def growth(self) -> int:
        """Bytes added; negative if memory was freed."""
        return self.bytes - self.baseline_bytes


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """The highest memory of a step."""

    reserved_bytes: int
    """Reserved by PyTorch's allocator. Limits apply to it, because it is what runs out."""
    allocated_bytes: int
    """Allocated to tensors."""


@dataclass(frozen=True, kw_only=True)
class CheckResult(ShownInNotebooks):
    """The answer of `vram check`."""

    command: Literal["check"] = "check"
    result: BreakdownResult
    """The measurement or prediction. If a prediction does not fit, its breakdown is that of a device with exactly as
    much memory as the training takes."""
    limits: CheckLimits
    peak: PeakMemory | None
    """None if the training did not fit and its need is not known."""
    baseline_name: str = ""
    """The baseline's file; "" for no baseline."""
    baseline_peak: PeakMemory | None = None
    findings: tuple[Finding, ...] = ()
    """A misfit first, then by excess, the largest first."""
    rows: tuple[RowChange, ...] = ()
    """The categories that make up reserved memory, the largest growth first; empty without a comparable breakdown."""
    modules: tuple[ModuleChange, ...] = ()
    """The modules that changed, the largest growth first."""
    remarks: tuple[str, ...] = ()
    """Further remarks, one sentence each."""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def passed(self) -> bool:
        """Whether no limit is broken."""
        return not self.findings
