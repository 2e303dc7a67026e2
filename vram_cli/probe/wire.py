"""What the parent and the child process say to each other: one JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli.results import DataFacts, DataInfo, Device, ImageSample, Measurement, ModelFacts, Phase, Plan, Run


@dataclass(frozen=True, kw_only=True)
class Order:
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
class Task:
    """Parent to child, then again and again: run this size."""

    kind: Literal["task"] = "task"

    batch_size: int
    explain: bool
    detail: bool = False
    """Whether the breakdown should carry modules and a timeline."""
    snapshot: str | None = None
    """Predictions: the file to which the run is written for PyTorch's memory_viz."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Parent to child, in place of an order: say what the data and the model are; nothing is trained."""

    kind: Literal["look"] = "look"

    config: dict[str, Any]
    download: bool
    folder: str
    """As that of an order."""
    samples: int
    """Images to return of each class."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Parent to child, in place of an order: what is going to be trained, on a device that is there."""

    kind: Literal["course"] = "course"

    config: dict[str, Any]
    download: bool
    folder: str
    """As that of an order."""
    device: str
    """Such as "cuda:0"."""
    plan: Plan
    largest: int
    """The largest batch that is known to fit: validation takes no larger ones."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Parent to child, after a course, again and again: train from fresh weights."""

    kind: Literal["train"] = "train"

    batch_size: int
    parts: int
    """In how many it is trained, gradients added up."""
    repeat: int
    fold: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Child to parent: how far a training has come."""

    kind: Literal["learning"] = "learning"
    step: int
    steps: int
    loss: float
    """Of the last step."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Child to parent: a training is over."""

    kind: Literal["trained"] = "trained"
    run: Run | None
    """None where memory ran out."""
    message: str = ""
    """How it did."""


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
class Entered:
    """Child to parent: a phase has begun; tells where a killed child was."""

    kind: Literal["entered"] = "entered"
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class Done:
    """Child to parent: a trial is over."""

    kind: Literal["done"] = "done"
    measurement: Measurement
    poisoned: bool
    """Whether the child should be replaced before the next trial."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Child to parent: what was seen."""

    kind: Literal["looked"] = "looked"
    data: DataFacts
    model: ModelFacts
    samples: tuple[ImageSample, ...]
    versions: dict[str, str]


Reply = Ready | Refused | Entered | Done | Looked | Learning | Trained

Request = Order | Task | Look | Course | Train

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
