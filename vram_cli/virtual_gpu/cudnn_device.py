"""cuDNN's description of a device: with it, cuDNN chooses algorithms and workspaces for a GPU that is not there.

See "Deviceless Ahead-of-time Compilation" in the documentation of cudnn-frontend. The keys and the constants are those
of an H200 (`cudnn device` in benchmarks/results/2026-11-27-h200/card.json). cuDNN 9.19 and 9.24 need all of them, and
with them give plans for convolutions on every NVIDIA GPU of the catalogue.
"""

from __future__ import annotations

from typing import Any

from vram_cli.hardware.gpus import Gpu

_CUDA_VERSION = 13000  # CUDA 13.0, of the driver that the virtual GPU claims to have


def cudnn_device(gpu: Gpu, memory_bytes: int) -> dict[str, Any]:
    """Return CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION of a GPU with that much memory; sizes in bytes, clocks in kHz.

    Raises:
        ConfigError: the GPU has no CUDA.
    """
    (major, minor), limits, properties = gpu.cuda()
    return {
        "maxGridSize": [2**31 - 1, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "regsPerBlock": limits.registers_per_multiprocessor,
        "multiProcessorCount": gpu.multiprocessors,
        "warpSize": 32,
        "maxSharedMemoryPerBlock": 48 * 1024,
        "maxSharedMemoryPerBlockOptin": limits.shared_memory_per_block_optin,
        "reservedSharedMemoryPerBlock": limits.reserved_shared_memory_per_block,
        "maxRegistersPerSM": limits.registers_per_multiprocessor,
        "maxCtasPerSM": limits.blocks_per_multiprocessor,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": limits.threads_per_multiprocessor,
        "pciDeviceId": 0,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
        "totalGlobalMem": memory_bytes,
        "smClockRateKHz": properties.clock_mhz * 1000,
        "memClockRateKHz": properties.memory_clock_mhz * 1000,
        "l2CacheSize": properties.l2_bytes,
        "cudaDeviceId": 0,
        "deviceVer": 100 * major + 10 * minor,
        "driverVer": _CUDA_VERSION,
        "deviceName": gpu.driver_name,
    }
