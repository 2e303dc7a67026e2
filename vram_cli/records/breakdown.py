"""Where the memory is at the peak of a step: by category, by module, over time."""

from __future__ import annotations

from dataclasses import dataclass

from vram_cli.module_paths import parent_path
from vram_cli.records.enums import Category, Phase


@dataclass(frozen=True, kw_only=True)
class BreakdownRow:
    """One category and its bytes."""

    category: Category
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ModuleShare:
    """What a module and all that it contains hold at the moment of highest use.

    Raises:
        ValueError: `by_category` does not add up to `bytes`.
    """

    path: str
    """As in `named_modules`, such as "layer1.0.conv1"; "" is the model with all that belongs to no part of it: the
    batch, the loss, the optimizer's temporaries."""
    bytes: int
    by_category: dict[Category, int]

    def __post_init__(self) -> None:
        if sum(self.by_category.values()) != self.bytes:
            raise ValueError(f"categories of module {self.path!r} do not add up to {self.bytes} bytes")


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """What tensors hold at one moment of a step."""

    event: int
    """How many allocations and frees of the step came before."""
    phase: Phase
    by_category: dict[Category, int]
    """Bytes; categories that hold nothing are left out."""

    @property
    def bytes(self) -> int:
        """What all tensors hold together."""
        return sum(self.by_category.values())


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over one step of a training that has settled, `zero_grad` before the forward pass included.

    What kernels take for themselves is in it only where it was predicted: on a real device nobody sees when.

    Raises:
        ValueError: there are no points.
    """

    points: tuple[TimelinePoint, ...]
    """In order. Of a long step, the highest of each run of events; the highest of all is always among them."""
    events: int
    """Allocations and frees of the whole step."""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a timeline has at least one point")

    @property
    def peak(self) -> TimelinePoint:
        """The moment of highest use."""
        return max(self.points, key=lambda point: point.bytes)


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Where the device's memory was at the moment of highest use.

    Raises:
        ValueError: the rows do not add up to `total_bytes`, or the modules not to the rows of what tensors hold, or
            they are no tree.
    """

    batch_size: int
    rows: tuple[BreakdownRow, ...]
    """One row for each `Category`, in its order."""
    total_bytes: int
    """The device's memory, or the budget that stands for it."""
    peak_phase: Phase
    """The phase in which use was highest."""
    modules: tuple[ModuleShare, ...] = ()
    """The whole model first, each module before those in it and the largest first; empty unless asked for."""
    timeline: Timeline | None = None
    """Only where it was asked for."""

    def __post_init__(self) -> None:
        added = sum(row.bytes for row in self.rows)
        if added != self.total_bytes:
            raise ValueError(f"breakdown rows add up to {added}, not to {self.total_bytes} bytes")
        if self.modules and self.modules[0].bytes != self.tensor_bytes:
            raise ValueError(f"modules hold {self.modules[0].bytes} bytes, tensors {self.tensor_bytes}")
        known = {""}
        for share in self.modules[1:]:
            if share.path in known or parent_path(share.path) not in known:
                raise ValueError(f"module {share.path!r} is there twice, or before the one that it is in")
            known.add(share.path)

    @property
    def tensor_bytes(self) -> int:
        """What tensors and workspaces asked for: all but the allocator's slack, what lies outside it, and the rest."""
        beside = (Category.ALLOCATOR_SLACK, Category.CONTEXT, Category.FREE)
        return sum(row.bytes for row in self.rows if row.category not in beside)

    def bytes_of(self, category: Category) -> int:
        """Return the bytes of one category, 0 where it has no row."""
        return sum(row.bytes for row in self.rows if row.category is category)
