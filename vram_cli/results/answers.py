"""The answer of `vram find-batch` and `vram breakdown`, with what it stood on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vram_cli.results.breakdowns import Breakdown
from vram_cli.results.kinds import SCHEMA_VERSION, Limit
from vram_cli.results.measurements import Certificate, Measurement
from vram_cli.results.throughput import Throughput


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the trials stood on."""

    kind: str
    """"real" or "simulated"."""
    name: str
    """Such as "NVIDIA A100-SXM4-80GB" or "CPU (AMD EPYC 7B13, 2 cores)"."""
    type: str
    """Such as "cuda:0" or "cpu"."""
    capacity_bytes: int
    """The memory that all rows of a breakdown add up to: the card's, or the budget where one was given."""
    budget_bytes: int | None = None
    """The budget the user gave; None for the whole device."""
    enforced_by: str = ""
    """What makes a trial fail at the limit, such as "RLIMIT_DATA" or "the CUDA allocator"."""
    other_processes: tuple[str, ...] = ()
    """Other processes that hold memory on the device, one line each."""
    accuracy: str = ""
    """Of a simulated device: how far such predictions were from measurements, and from which; one line."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of a batch, as one sample has it."""

    name: str
    """The argument's name, or where in the batch it lies, such as "[1].boxes"."""
    shape: tuple[int, ...]
    """Without the batch dimension."""
    dtype: str


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The data that the batches were made of."""

    name: str
    source: str
    """"files", "synthetic", or "code" where the config names what makes the batches."""
    detail: str
    """Why this source, where the files lie, or which batch stands for data of varying length; one line."""
    tensors: tuple[TensorInfo, ...]
    """What the model is called with; targets of images are left out, `classes` tells them."""
    classes: int | None
    """Number of classes; None where nobody says so."""
    num_samples: int | None
    """Length of the data set; None where there is no such thing."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer of a command: saved by `--save`, printed by `--json`, drawn again by `vram show`."""

    command: str
    """"find-batch" or "breakdown"."""
    config_name: str
    """The config's file, as the user named it."""
    config: dict[str, Any]
    """The whole config that was used, defaults included."""
    overrides: tuple[str, ...] = ()
    """What the command line changed of the file, such as "optimizer.name=adamw"."""
    device: Device
    data: DataInfo | None
    versions: dict[str, str]
    """Of vram, Python, torch, CUDA, the driver and the system: compare like with like."""
    trials: tuple[Measurement, ...]
    max_batch_size: int | None = None
    recommended_batch_size: int | None = None
    limited_by: Limit | None = None
    certificate: Certificate | None = None
    extrapolated_batch_size: int | None = None
    shortfall_bytes: int | None = None
    """Where nothing fits: what the smallest batch was short of, at least, when it failed."""
    breakdown: Breakdown | None = None
    throughput: Throughput | None = None
    """How fast sizes up to the largest train; only where `search.objective` asks for it, and something was timed."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early: the figures are then what was known by then."""
    remark: str = ""
    """What a reader should know before the figures, such as that they are predicted for want of a GPU."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)
