"""The messages between the parent and the worker process: one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli import errors
from vram_cli.records import (
    DataFacts,
    DataInfo,
    Detail,
    Device,
    ImageSample,
    Measurement,
    ModelFacts,
    ParallelInfo,
    Phase,
    ScriptInfo,
)


class Event:
    """Base class of the messages that a worker sends before its reply."""


@dataclass(frozen=True, kw_only=True)
class ImportTorch:
    """Parent to worker, first: import torch, so that the time of later requests is that of the training's own code."""

    kind: Literal["import_torch"] = "import_torch"


@dataclass(frozen=True, kw_only=True)
class TorchImported:
    """Worker to parent: torch is imported."""

    kind: Literal["torch_imported"] = "torch_imported"


@dataclass(frozen=True, kw_only=True)
class RankPlace:
    """The place of a worker among the ranks that train together."""

    rank: int
    ranks: int
    local_rank: int
    """Its number among those of its machine: the number of its GPU."""
    cpu_capacity: int
    """Its share of the CPU's memory, in bytes, if there is no limit."""
    store: str
    """The store at which the ranks meet: "file:PATH", or "tcp:HOST:PORT/PREFIX" for that of a launcher."""


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    """Parent to worker: open a session for a config. A later message replaces the session."""

    kind: Literal["open_session"] = "open_session"

    config: dict[str, Any]
    download: bool
    folder: str = ""
    """Folder that is searched first for code that the config names; "" for none."""
    calibrated: bool = True
    """Whether a prediction uses the saved calibration of its GPU."""
    timed: bool = False
    """Whether trials time their steps, without tracking memory."""
    virtual: bool = False
    """Whether the worker was started with the virtual GPU, to predict by it."""
    warm: bool = True
    """Whether a small trial may run before the first one."""
    place: RankPlace | None = None
    """The place of the worker, if several ranks train on devices of this machine or others."""


@dataclass(frozen=True, kw_only=True)
class RunTrial:
    """Parent to worker: run a batch size of the open session."""

    kind: Literal["run_trial"] = "run_trial"

    batch_size: int
    detail: Detail = Detail.NONE
    confirm: bool = False
    """Whether a prediction must simulate this size, and not interpolate it from other sizes."""
    is_warm_up: bool = False
    """Whether ranks run it without a limit, to load what is loaded on first use."""
    snapshot: str | None = None
    """File to which a prediction writes a snapshot for PyTorch's memory_viz."""


@dataclass(frozen=True, kw_only=True)
class InspectWorkload:
    """Parent to worker, without a session: describe the data and the model."""

    kind: Literal["inspect_workload"] = "inspect_workload"

    config: dict[str, Any]
    download: bool
    folder: str
    samples: int
    """Images to return per class."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Worker to parent: the session is open."""

    kind: Literal["ready"] = "ready"
    device: Device
    guard_bytes: int | None = None
    """Resident memory at which the parent ends the worker, if the system enforces no limit."""
    data: DataInfo | None = None
    """None if the training itself makes its batches."""
    versions: dict[str, str]
    script: ScriptInfo | None = None
    """What the rehearsal of a script found out."""
    parallel: ParallelInfo | None = None
    remark: str = ""
    """A remark on how to read the figures."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Worker to parent: the request cannot be met."""

    kind: Literal["refused"] = "refused"
    error: str
    """The name of the class in `vram_cli.errors`."""
    message: str
    hint: str
    traceback: str = ""
    """The user's own traceback, if their code is the reason."""

    def to_error(self) -> errors.VramError:
        """Return the error to raise in the parent."""
        if self.traceback:
            return errors.WorkloadError(self.message, self.hint, self.traceback)
        kind: type[errors.VramError] = getattr(errors, self.error)
        return kind(self.message, self.hint)


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(Event):
    """Worker to parent: a phase of the trial begins."""

    kind: Literal["phase_started"] = "phase_started"
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class TrialDone:
    """Worker to parent: a trial has ended."""

    kind: Literal["trial_done"] = "trial_done"
    measurement: Measurement
    poisoned: bool
    """Whether the worker must be replaced before the next trial."""
    data_dtype: str = "float32"
    """The dtype of data that follow the model."""
    exceeded_limit: bool = False
    """Whether the context of the device grew during the trial of a rank, so that all ranks must repeat it."""


@dataclass(frozen=True, kw_only=True)
class WarmUpLeft:
    """Worker to parent, in place of a trial: tensors outlived the warm-up, so a process without one must run trials."""

    kind: Literal["warm_up_left"] = "warm_up_left"


@dataclass(frozen=True, kw_only=True)
class WorkloadInspected:
    """Worker to parent: the description of the data and the model."""

    kind: Literal["workload_inspected"] = "workload_inspected"
    data: DataFacts
    model: ModelFacts
    samples: tuple[ImageSample, ...]
    versions: dict[str, str]


Request = ImportTorch | OpenSession | RunTrial | InspectWorkload

Reply = TorchImported | Ready | Refused | PhaseStarted | TrialDone | WarmUpLeft | WorkloadInspected

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])
