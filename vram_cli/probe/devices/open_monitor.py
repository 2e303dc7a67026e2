"""Open the memory monitor of a device by name."""

from __future__ import annotations

import torch

from vram_cli.errors import MachineError
from vram_cli.probe.devices.cpu import CpuMonitor
from vram_cli.probe.devices.cuda import CudaMonitor
from vram_cli.probe.devices.monitor import MemoryMonitor
from vram_cli.probe.devices.mps import MpsMonitor

_ON_THE_CPU = "use --device cpu with a --memory-limit such as 8GiB"


def open_monitor(name: str, memory_limit: int | None, *, cpu_capacity: int | None = None) -> MemoryMonitor:
    """Return the monitor for auto, cpu, cuda, cuda:N, xpu or mps; `memory_limit` is in bytes.

    Args:
        name: name of the device.
        memory_limit: limit in bytes; None for all of the device's memory.
        cpu_capacity: capacity of the CPU in bytes if there is no limit; None for a share of the available RAM.

    Raises:
        MachineError: the device does not exist, has less memory than the limit, or PyTorch offers no counters for it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cpu":
        return CpuMonitor(memory_limit, cpu_capacity)
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise MachineError(f"device.name: PyTorch {torch.__version__} finds no mps device here", _ON_THE_CPU)
        return MpsMonitor(device, memory_limit)
    return CudaMonitor(torch.device(device.type, _index(device)), memory_limit)


def _index(device: torch.device) -> int:
    backend = getattr(torch, device.type)
    if not backend.is_available():
        raise MachineError(
            f"device.name: PyTorch {torch.__version__} finds no {device} here",
            f"{_ON_THE_CPU}, or check the driver with nvidia-smi",
        )
    count = int(backend.device_count())
    index = int(device.index if device.index is not None else backend.current_device())
    if index >= count:
        raise MachineError(
            f"device.name: there is no {device}: PyTorch finds {count} {device.type} device{'s' if count > 1 else ''}",
            f"use {device.type}:0" + (f" to {device.type}:{count - 1}" if count > 1 else ""),
        )
    return index
