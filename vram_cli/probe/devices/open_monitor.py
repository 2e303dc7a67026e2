"""From a device's name to its meter."""

from __future__ import annotations

import torch

from vram_cli.errors import MachineError
from vram_cli.probe.devices.cpu import CpuMonitor
from vram_cli.probe.devices.cuda import CudaMonitor
from vram_cli.probe.devices.monitor import MemoryMonitor


def open_monitor(name: str, memory_limit_bytes: int | None) -> MemoryMonitor:
    """Return the meter for auto, cpu, cuda, cuda:N, xpu or mps.

    Raises:
        MachineError: there is no such device here, or it offers no counters.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cpu":
        return CpuMonitor(memory_limit_bytes)
    if device.type == "mps":
        raise MachineError(
            "device.name: mps counts no peak memory, so nothing could be proved on it",
            "use --device cpu with a --memory-limit",
        )
    return CudaMonitor(torch.device(device.type, _index(device)), memory_limit_bytes)


def _index(device: torch.device) -> int:
    backend = getattr(torch, device.type)
    if not backend.is_available():
        raise MachineError(
            f"device.name: {device} was asked for, and PyTorch {torch.__version__} sees no such device",
            "use --device cpu with a --memory-limit such as 8GiB, or check the driver with nvidia-smi",
        )
    count = int(backend.device_count())
    index = int(device.index if device.index is not None else backend.current_device())
    if index >= count:
        raise MachineError(
            f"device.name: {device} was asked for, and PyTorch sees {count} of its kind",
            f"use {device.type}:0" + (f" to {device.type}:{count - 1}" if count > 1 else ""),
        )
    return index
