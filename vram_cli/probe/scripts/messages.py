"""The messages between a worker and the process in which a script runs: one JSON object each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from vram_cli.probe.messages import PhaseStarted, Refused
from vram_cli.probe.scripts.loaders import LoaderPlan
from vram_cli.records import Detail, Device, LoaderInfo, Measurement


@dataclass(frozen=True, kw_only=True)
class ScriptRequest:
    """Worker to script: the trial to run."""

    batch_size: int
    """The batch size under trial."""
    config: dict[str, Any]
    is_virtual: bool
    """Whether the process has the library of the virtual GPU."""
    plan: LoaderPlan
    has_overlay: bool = False
    """Whether writes into the working folder are discarded."""
    has_optimizer: bool = False
    """Whether the rehearsal saw an optimizer step."""
    may_lose: bool = False
    """Whether the script may remove files that were there before."""
    made: tuple[str, ...] = ()
    """Files that earlier trials have made."""
    is_rehearsal: bool = False
    """Whether the run is to find out about the script: it has no memory limit."""
    detail: Detail = Detail.NONE
    peak: tuple[int, int, int] | None = None
    """The peak of the same trial without tracking, in bytes requested, allocated and reserved; None if it is this."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a rehearsal found out."""

    loaders: tuple[LoaderInfo, ...]
    training: tuple[str, ...]
    """Keys of the loaders that train."""
    obstacles: tuple[str, ...]
    """Why the batch size of these cannot be set, one each; "" if it can."""
    micro_batches: int
    has_optimizer: bool
    """Whether an optimizer stepped."""
    has_float32_convolutions: bool
    """Whether a model convolves in float32, but for autocast."""
    input_sizes: tuple[str, ...]
    """Sizes of the tensors that modules were called with."""
    modules: tuple[str, ...]
    """Modules of packages that the script imported, in order."""
    order: tuple[int, ...]
    """The samples that make the largest batch, the largest first; empty if all are of one size."""
    data_name: str
    samples_measured: int | None
    samples_total: int | None
    guard_bytes: int | None
    device: Device
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ScriptDone:
    """Script to worker: the trial has ended, and the process with it."""

    kind: Literal["script_done"] = "script_done"
    measurement: Measurement
    rehearsal: Rehearsal | None = None
    step_peak: tuple[int, int, int] = (0, 0, 0)
    """The peak of the last step, in bytes requested, allocated and reserved."""
    made: tuple[str, ...] = ()
    """Files that this and earlier trials have made."""
    allocator_bytes: int = 0
    """Memory of the device that its allocator may reserve."""
    discarded_bytes: int = 0
    """Bytes of the files that the script wrote into its folder, which the end of the trial discards."""


Answer = ScriptDone | Refused | PhaseStarted

ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])
SCRIPT_REQUEST: TypeAdapter[ScriptRequest] = TypeAdapter(ScriptRequest)
