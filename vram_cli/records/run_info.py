"""The device, data, config and versions of a run: part of every answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vram_cli.records.parallel import ParallelInfo
from vram_cli.records.script import ScriptInfo


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device that trials ran on, or were predicted for."""

    kind: str
    """"real" or "simulated"."""
    name: str
    """Such as "NVIDIA A100-SXM4-80GB" or "CPU (AMD EPYC 7B13, 2 cores)"."""
    type: str
    """Such as "cuda:0" or "cpu"."""
    capacity_bytes: int
    """The device's memory, or the memory limit if there is one; all rows of a breakdown add up to it."""
    memory_limit_bytes: int | None = None
    """The memory limit; None for the whole device."""
    limit_enforced_by: str = ""
    """The mechanism that makes a trial fail at the limit, such as "RLIMIT_DATA" or "the CUDA allocator"."""
    other_processes: tuple[str, ...] = ()
    """Other processes with memory on the device, one line each."""
    outside_bytes: int = 0
    """Bytes of `capacity_bytes` used outside PyTorch's allocator before the first trial."""
    has_peak_counters: bool = True
    """Whether the device counts peak memory. If not, every tensor of every step is tracked."""
    confirm_in_new_process: bool = False
    """Whether a size has to be confirmed in a new process, because earlier trials affect the allocator's cache."""
    engine: str = ""
    """What a simulated device is predicted by: "virtual-gpu" or "fake-tensors"; "" for a real device."""
    accuracy: str = ""
    """For a simulated device, the error of such predictions against measurements, in one line."""

    @property
    def is_simulated(self) -> bool:
        """Whether figures are predicted, without running a step."""
        return self.kind == "simulated"

    @property
    def is_gpu(self) -> bool:
        """Whether it is a CUDA or ROCm GPU, real or simulated."""
        return self.type.startswith("cuda")

    @property
    def allocator_bytes(self) -> int:
        """The memory that PyTorch's allocator may reserve: the capacity minus `outside_bytes`."""
        return max(0, self.capacity_bytes - self.outside_bytes)


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of a batch, per sample."""

    name: str
    """The name of the argument, or the path in the batch, such as "[1].boxes"."""
    shape: tuple[int, ...]
    """Without the batch dimension."""
    dtype: str
    follows_model: bool = False
    """Whether its dtype is that of the model's first floating parameter."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The data of the batches."""

    name: str
    source: str
    """"files", "synthetic", or "code" if the config names a factory."""
    detail: str
    """The reason for the source, the folder of the files, or the batch that represents varying lengths; one line."""
    tensors: tuple[TensorInfo, ...]
    """The inputs of the model; targets of images are left out, because `classes` describes them."""
    classes: int | None
    """Number of classes; None if not known."""
    num_samples: int | None
    """Length of the data set; None if it has no length."""
    samples_measured: int | None = None
    """Samples that were looked at to find the largest; None if batches are not selected from samples."""
    samples_total: int | None = None
    """Samples to look at; None if there are none, or the end of a stream was not seen."""

    def for_model(self, dtype: str) -> DataInfo:
        """Return the data as a model takes them whose first floating parameter has a dtype."""
        tensors = (replace(tensor, dtype=dtype) if tensor.follows_model else tensor for tensor in self.tensors)
        return replace(self, tensors=tuple(tensors))


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The config of a run, its device, its data and the versions."""

    config_name: str
    """The config file, as the user wrote it."""
    config: dict[str, Any]
    """The complete config, including defaults."""
    overrides: tuple[str, ...] = ()
    """The overrides of the command line, such as "optimizer.name=adamw"."""
    device: Device
    data: DataInfo | None
    versions: dict[str, str]
    """Versions of vram, Python, torch, CUDA, the driver and the system."""
    script: ScriptInfo | None = None
    """The script that ran, if it was one."""
    parallel: ParallelInfo | None = None
    """The ranks, if several train together."""
    remark: str = ""
    """A remark to read before the figures, such as that they are predicted because this machine has no GPU."""

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return 1 if self.parallel is None else self.parallel.ranks

    @property
    def num_samples(self) -> int | None:
        """Samples that a rank trains on: its part of the data set; of several data sets in a script, the smallest.

        None if none has a length.
        """
        if self.script is None:
            length = self.data.num_samples if self.data else None
        else:
            lengths = (loader.num_samples for loader in self.script.loaders if loader.trains)
            length = min((each for each in lengths if each is not None), default=None)
        return None if length is None else -(-length // self.ranks)  # DistributedSampler repeats a few

    def global_batch_size(self, batch_size: int) -> int | None:
        """Return the samples of one optimizer step, of all ranks and accumulated micro-batches; None without ranks."""
        return None if self.parallel is None else batch_size * self.parallel.ranks * self.parallel.micro_batches
