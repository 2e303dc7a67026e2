"""What `vram compare` and its worker process say to each other: one JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli.compare.records import ComparePlan, Run
from vram_cli.probe.messages import Event, Refused


@dataclass(frozen=True, kw_only=True)
class OpenTraining:
    """Parent to child, in place of an order: what is going to be trained, on a device that is there."""

    kind: Literal["course"] = "course"

    config: dict[str, Any]
    download: bool
    folder: str
    """As that of an order."""
    device: str
    """Such as "cuda:0"."""
    plan: ComparePlan
    largest: int
    """The largest batch that is known to fit: validation takes no larger ones."""


@dataclass(frozen=True, kw_only=True)
class RunTraining:
    """Parent to child, after a course, again and again: train from fresh weights."""

    kind: Literal["train"] = "train"

    batch_size: int
    parts: int
    """In how many it is trained, gradients added up."""
    repeat: int
    fold: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class TrainingProgress(Event):
    """Child to parent: how far a training has come."""

    kind: Literal["learning"] = "learning"
    step: int
    steps: int
    loss: float
    """Of the last step."""


@dataclass(frozen=True, kw_only=True)
class TrainingDone:
    """Child to parent: a training is over."""

    kind: Literal["trained"] = "trained"
    run: Run | None
    """None where memory ran out."""
    message: str = ""
    """How it did."""


Request = OpenTraining | RunTraining

Reply = Refused | TrainingProgress | TrainingDone

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])
