"""The device, data, config and versions of a run: the heading of every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device of the trials."""

    kind: str
    """"real" or "simulated"."""
    name: str
    """Such as "NVIDIA A100-SXM4-80GB" or "CPU (AMD EPYC 7B13, 2 cores)"."""
    type: str
    """Such as "cuda:0" or "cpu"."""
    capacity_bytes: int
    """The memory that the rows of a breakdown add up to: the device's, or the memory limit."""
    memory_limit_bytes: int | None = None
    """The user's memory limit; None for the whole device."""
    limit_enforced_by: str = ""
    """The mechanism that makes a trial fail at the limit, such as "RLIMIT_DATA" or "the CUDA allocator"."""
    other_processes: tuple[str, ...] = ()
    """Other processes with memory on the device, one line each."""
    outside_bytes: int = 0
    """Bytes of `capacity_bytes` in use outside PyTorch's allocator before the first trial."""
    has_peak_counters: bool = True
    """Whether the device counts peak memory itself. If not, every tensor of every step is tracked."""
    confirm_in_new_process: bool = False
    """Whether a size has to be confirmed in a new process, because earlier trials shape the allocator's cache."""
    accuracy: str = ""
    """For a simulated device: the error of such predictions against measurements, and which ones; one line."""

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
        """Bytes that PyTorch's allocator may reserve: the capacity minus the memory outside the allocator."""
        return max(0, self.capacity_bytes - self.outside_bytes)


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of a batch, as one sample has it."""

    name: str
    """The argument's name, or its place in the batch, such as "[1].boxes"."""
    shape: tuple[int, ...]
    """Without the batch dimension."""
    dtype: str


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The data of the batches."""

    name: str
    source: str
    """"files", "synthetic", or "code" if the config names a factory of the data."""
    detail: str
    """The reason for this source, the folder of the files, or the batch that represents data of varying length."""
    tensors: tuple[TensorInfo, ...]
    """The arguments of the model. Targets of images are left out; `classes` describes them."""
    classes: int | None
    """Number of classes; None if not known."""
    num_samples: int | None
    """Length of the data set; None if it has none."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The config, device, data and versions of a run."""

    config_name: str
    """The config's file, as the user named it."""
    config: dict[str, Any]
    """The whole config, defaults included."""
    overrides: tuple[str, ...] = ()
    """Changes made on the command line, such as "optimizer.name=adamw"."""
    device: Device
    data: DataInfo | None
    versions: dict[str, str]
    """Versions of vram, Python, torch, CUDA, the driver and the system."""
    remark: str = ""
    """A remark to read before the figures, such as that they are predicted because this machine has no GPU."""
