"""The memory at the peak of a step by category and by module, and over time."""

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
    """The memory of a module, submodules included, at the peak.

    Raises:
        ValueError: `by_category` does not add up to `bytes`.
    """

    path: str
    """As in `named_modules`, such as "layer1.0.conv1"; "" is the model, with the memory that belongs to no
    module: the batch, the loss, the optimizer's temporaries."""
    bytes: int
    by_category: dict[Category, int]

    def __post_init__(self) -> None:
        if sum(self.by_category.values()) != self.bytes:
            raise ValueError(f"categories of module {self.path!r} do not add up to {self.bytes} bytes")


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """The memory of tensors at one moment of a step."""

    event: int
    """Number of allocations and frees before it in the step."""
    phase: Phase
    by_category: dict[Category, int]
    """Bytes per category; empty categories are left out."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(self.by_category.values())


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over one step in the steady state, from `zero_grad` before the forward pass on.

    Workspaces of kernels are included in predictions only: on a real device their allocations cannot be observed.

    Raises:
        ValueError: there are no points.
    """

    points: tuple[TimelinePoint, ...]
    """In order. A long step is reduced to the highest point of each run of events, the peak included."""
    events: int
    """Number of allocations and frees of the whole step."""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a timeline has at least one point")

    @property
    def peak(self) -> TimelinePoint:
        """The moment of the peak."""
        return max(self.points, key=lambda point: point.bytes)


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """The device's memory at the peak, by category.

    Raises:
        ValueError: the rows do not add up to `total_bytes`, or the modules not to the rows of what tensors hold, or
            they are no tree.
    """

    batch_size: int
    rows: tuple[BreakdownRow, ...]
    """One row per `Category`, in its order."""
    total_bytes: int
    """The device's memory, or the memory limit."""
    peak_phase: Phase
    """The phase of the peak."""
    modules: tuple[ModuleShare, ...] = ()
    """The whole model first, each module before its submodules, the largest first; empty unless requested."""
    timeline: Timeline | None = None
    """None unless requested."""

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
        """Bytes of tensors and workspaces: all but allocator slack, context and free memory."""
        beside = (Category.ALLOCATOR_SLACK, Category.CONTEXT, Category.FREE)
        return sum(row.bytes for row in self.rows if row.category not in beside)

    def bytes_of(self, category: Category) -> int:
        """Return the bytes of one category, 0 if it has no row."""
        return sum(row.bytes for row in self.rows if row.category is category)
