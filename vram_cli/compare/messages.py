"""Messages between `vram compare` and its worker process: one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli.compare.records import ComparePlan, TrainingRun
from vram_cli.probe.messages import Event, ImportTorch, Refused, TorchImported


@dataclass(frozen=True, kw_only=True)
class OpenTraining:
    """Parent to worker: what to train, and on which device."""

    kind: Literal["open_training"] = "open_training"

    config: dict[str, Any]
    download: bool
    folder: str
    """Folder that is searched first for code that the config names; "" for none."""
    device: str
    """Device string, such as "cuda:0"."""
    plan: ComparePlan
    max_eval_batch: int
    """Largest batch known to fit, and so the largest that validation may use."""


@dataclass(frozen=True, kw_only=True)
class TrainingOpened:
    """Worker to parent: data and code of the config can be used."""

    kind: Literal["training_opened"] = "training_opened"


@dataclass(frozen=True, kw_only=True)
class RunTraining:
    """Parent to worker, any number of times: train from new weights."""

    kind: Literal["run_training"] = "run_training"

    batch_size: int
    micro_batches: int
    """Micro-batches per batch."""
    repeat: int
    fold: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class TrainingProgress(Event):
    """Worker to parent: the progress of a training."""

    kind: Literal["training_progress"] = "training_progress"
    step: int
    steps: int
    loss: float
    """Loss of the last step."""


@dataclass(frozen=True, kw_only=True)
class TrainingDone:
    """Worker to parent: a training has ended."""

    kind: Literal["training_done"] = "training_done"
    run: TrainingRun | None
    """None if it ran out of memory."""
    message: str = ""
    """How it ran out of memory."""


Request = ImportTorch | OpenTraining | RunTraining

Reply = Refused | TorchImported | TrainingOpened | TrainingProgress | TrainingDone

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])
