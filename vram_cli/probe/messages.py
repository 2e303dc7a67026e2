"""What the parent and the child process say to each other: one JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli.records import DataFacts, DataInfo, Device, ImageSample, Measurement, ModelFacts, Phase


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """Parent to child, first, and again for another one: what to train and where."""

    kind: Literal["order"] = "order"

    config: dict[str, Any]
    download: bool
    folder: str = ""
    """Where code that the config names is looked for first; "" for nowhere in particular."""
    calibrated: bool = True
    """Whether a prediction takes what is kept of the card from `vram calibrate`."""
    timed: bool = False
    """Whether trials are for the clock alone: steps that nothing watches, each timed."""


@dataclass(frozen=True, kw_only=True)
class RunTrial:
    """Parent to child, then again and again: run this size."""

    kind: Literal["task"] = "task"

    batch_size: int
    explain: bool
    detail: bool = False
    """Whether the breakdown should carry modules and a timeline."""
    snapshot: str | None = None
    """Predictions: the file to which the run is written for PyTorch's memory_viz."""


@dataclass(frozen=True, kw_only=True)
class InspectWorkload:
    """Parent to child, in place of an order: say what the data and the model are; nothing is trained."""

    kind: Literal["look"] = "look"

    config: dict[str, Any]
    download: bool
    folder: str
    """As that of an order."""
    samples: int
    """Images to return of each class."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Child to parent: the device and the data are there."""

    kind: Literal["ready"] = "ready"
    device: Device
    outside_bytes: int
    """Of the device's capacity, held outside PyTorch's allocator before the first trial."""
    guard_bytes: int | None
    """Resident memory at which the parent ends the child, where the system enforces no budget."""
    data: DataInfo
    versions: dict[str, str]
    remark: str = ""
    """What the reader of an answer should know first."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Child to parent: what was asked for cannot be done."""

    kind: Literal["refused"] = "refused"
    error: str
    """The name of the class in `vram_cli.errors`."""
    message: str
    hint: str
    traceback: str = ""
    """Of the user's own code, where that is why."""


@dataclass(frozen=True, kw_only=True)
class PhaseStarted:
    """Child to parent: a phase has begun; tells where a killed child was."""

    kind: Literal["entered"] = "entered"
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class TrialDone:
    """Child to parent: a trial is over."""

    kind: Literal["done"] = "done"
    measurement: Measurement
    poisoned: bool
    """Whether the child should be replaced before the next trial."""


@dataclass(frozen=True, kw_only=True)
class WorkloadInspected:
    """Child to parent: what was seen."""

    kind: Literal["looked"] = "looked"
    data: DataFacts
    model: ModelFacts
    samples: tuple[ImageSample, ...]
    versions: dict[str, str]


Reply = Ready | Refused | PhaseStarted | TrialDone | WorkloadInspected

Request = OpenSession | RunTrial | InspectWorkload

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
