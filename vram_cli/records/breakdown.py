"""The memory at the peak of a step: by category, by module, and over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vram_cli.records.enums import OF_ONE_RANK, Category, Phase


@dataclass(frozen=True, kw_only=True)
class BreakdownRow:
    """A category and its bytes."""

    category: Category
    bytes: int


def rows_of(totals: Mapping[Category, int]) -> tuple[BreakdownRow, ...]:
    """Return the rows of a breakdown."""
    return tuple(
        BreakdownRow(category=category, bytes=totals[category])
        for category in Category
        if totals[category] or category in OF_ONE_RANK
    )


@dataclass(frozen=True, kw_only=True)
class ModuleShare:
    """The memory of a module and its submodules at the peak.

    Raises:
        ValueError: `by_category` does not add up to `bytes`.
    """

    path: str
    """As in `named_modules`, such as "layer1.0.conv1"; "" is the model, with memory that belongs to no module: the
    batch, the loss, temporaries of the optimizer."""
    bytes: int
    by_category: dict[Category, int]

    def __post_init__(self) -> None:
        if sum(self.by_category.values()) != self.bytes:
            raise ValueError(f"categories of module {self.path!r} do not add up to {self.bytes} bytes")


@dataclass(frozen=True, kw_only=True)
class LineShare:
    """The memory at the peak that a line of the user's code allocated."""

    line: str
    """"file:line" of the innermost code outside PyTorch and other packages; "" if there is none."""
    bytes: int
    category: Category
    """That of most of these bytes."""


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """The memory of tensors at one moment of a step."""

    event: int
    """Number of allocations and frees of the step before it."""
    phase: Phase
    by_category: dict[Category, int]
    """Bytes by category; empty categories are left out."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.by_category.values())


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over one step after warm-up, including `zero_grad` before the forward pass.

    Workspaces of kernels are included in predictions only: on a real device their lifetime is not observable.

    Raises:
        ValueError: there are no points.
    """

    points: tuple[TimelinePoint, ...]
    """In order. A long step is reduced to the highest point of each interval, so the peak is always included."""
    events: int
    """Number of allocations and frees of the whole step."""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a timeline has at least one point")

    @property
    def peak(self) -> TimelinePoint:
        """The point with the most memory."""
        return max(self.points, key=lambda point: point.bytes)


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """The use of the device's memory at the peak.

    Raises:
        ValueError: the rows do not add up to `total_bytes`, the modules do not add up to the memory of tensors, or
            their paths do not form a tree.
    """

    batch_size: int
    rows: tuple[BreakdownRow, ...]
    """One row per `Category`, in its order; those of several ranks only if they hold memory."""
    total_bytes: int
    """The device's memory, or the memory limit."""
    peak_phase: Phase
    """The phase of the peak."""
    modules: tuple[ModuleShare, ...] = ()
    """The model first, each module before its submodules, the largest first; empty unless requested."""
    timeline: Timeline | None = None
    """None unless requested."""
    lines: tuple[LineShare, ...] = ()
    """The lines of a script that allocated most of the memory at the peak, the largest first; empty for configs."""

    def __post_init__(self) -> None:
        added = sum(row.bytes for row in self.rows)
        if added != self.total_bytes:
            raise ValueError(f"breakdown rows add up to {added}, not to {self.total_bytes} bytes")
        if self.modules and self.modules[0].bytes != self.tensor_bytes:
            raise ValueError(f"modules hold {self.modules[0].bytes} bytes, tensors {self.tensor_bytes}")
        paths = {""}
        for share in self.modules[1:]:
            if share.path in paths or share.path.rpartition(".")[0] not in paths:
                raise ValueError(f"module {share.path!r} appears twice, or before its parent")
            paths.add(share.path)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of tensors and workspaces: all categories but allocator slack, context and free memory."""
        excluded = (Category.ALLOCATOR_SLACK, Category.COMMUNICATION, Category.CONTEXT, Category.FREE)
        return sum(row.bytes for row in self.rows if row.category not in excluded)

    def bytes_of(self, category: Category) -> int:
        """Return the bytes of a category; 0 if it has no row."""
        return sum(row.bytes for row in self.rows if row.category is category)
