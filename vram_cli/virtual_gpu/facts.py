"""The facts of a GPU as the preloaded library reads them from the environment of the worker process."""

from __future__ import annotations

import json

from vram_cli.hardware.gpus import Gpu
from vram_cli.virtual_gpu.cudnn_device import cudnn_device

VARIABLE = "VRAM_VIRTUAL_GPU"
"""The environment variable that native/facts.c reads."""


def card_facts(gpu: Gpu, *, memory_bytes: int, context_bytes: int) -> str:
    """Return the value of `VARIABLE`: lines of key=value, one per member of `Facts` in native/vgpu.h.

    Sizes are in bytes, clocks in kHz, the bus width in bits. `memory_bytes` is the total that the driver reports,
    `context_bytes` the part of it that is in use before the first allocation.

    Raises:
        ConfigError: the GPU has no CUDA.
    """
    (major, minor), limits, properties = gpu.cuda()
    facts = {
        "name": gpu.driver_name,
        "memory": memory_bytes,
        "context": context_bytes,
        "count": 1,
        "major": major,
        "minor": minor,
        "multiprocessors": gpu.multiprocessors,
        "threads_per_multiprocessor": limits.threads_per_multiprocessor,
        "blocks_per_multiprocessor": limits.blocks_per_multiprocessor,
        "registers_per_multiprocessor": limits.registers_per_multiprocessor,
        "shared_per_multiprocessor": limits.shared_memory_per_multiprocessor,
        "shared_per_block_optin": limits.shared_memory_per_block_optin,
        "reserved_shared_per_block": limits.reserved_shared_memory_per_block,
        "l2": properties.l2_bytes,
        "clock_khz": properties.clock_mhz * 1000,
        "memory_clock_khz": properties.memory_clock_mhz * 1000,
        "bus_width": properties.bus_width_bits,
        "cudnn": json.dumps(cudnn_device(gpu, memory_bytes)),
    }
    return "\n".join(f"{key}={value}" for key, value in facts.items())
