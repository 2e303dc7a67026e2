"""What a run stands on: the device, the data, the config and the versions. The heading of every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    memory_limit_bytes: int | None = None
    """The budget the user gave; None for the whole device."""
    limit_enforced_by: str = ""
    """What makes a trial fail at the limit, such as "RLIMIT_DATA" or "the CUDA allocator"."""
    other_processes: tuple[str, ...] = ()
    """Other processes that hold memory on the device, one line each."""
    outside_bytes: int = 0
    """Of `capacity_bytes`, held outside PyTorch's allocator before the first trial."""
    has_peak_counters: bool = True
    """Whether the device counts peak memory itself. If not, every tensor of every step is tracked."""
    confirm_in_new_process: bool = False
    """Whether a size has to be confirmed in a new process, because earlier trials shape the allocator's cache."""
    accuracy: str = ""
    """Of a simulated device: how far such predictions were from measurements, and from which; one line."""

    @property
    def is_simulated(self) -> bool:
        """Whether figures are predicted: no step ran on such a device."""
        return self.kind == "simulated"

    @property
    def is_gpu(self) -> bool:
        """Whether it is a CUDA or ROCm GPU, real or simulated."""
        return self.type.startswith("cuda")

    @property
    def allocator_bytes(self) -> int:
        """What PyTorch's allocator may reserve: the capacity less what lies outside the allocator."""
        return max(0, self.capacity_bytes - self.outside_bytes)


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
class RunInfo:
    """What was run, on which device and data, with which versions."""

    config_name: str
    """The config's file, as the user named it."""
    config: dict[str, Any]
    """The whole config, defaults included."""
    overrides: tuple[str, ...] = ()
    """What the command line changed, such as "optimizer.name=adamw"."""
    device: Device
    data: DataInfo | None
    versions: dict[str, str]
    """Of vram, Python, torch, CUDA, the driver and the system."""
    remark: str = ""
    """What to know before reading the figures, such as that they are predicted because this machine has no GPU."""
