"""The facts of a GPU for the preloaded library: those of an H200 equal what the device itself reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu
from vram_cli.virtual_gpu import card_facts
from vram_cli.virtual_gpu.cudnn_device import cudnn_device

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "2026-11-27-h200" / "card.json").read_text())

# Members of Facts -> numbers of cudaDeviceAttr.
ATTRIBUTES = {
    "major": 75,
    "minor": 76,
    "multiprocessors": 16,
    "threads_per_multiprocessor": 39,
    "blocks_per_multiprocessor": 106,
    "registers_per_multiprocessor": 82,
    "shared_per_multiprocessor": 81,
    "shared_per_block_optin": 97,
    "reserved_shared_per_block": 111,
    "l2": 38,
    "clock_khz": 13,
    "memory_clock_khz": 36,
    "bus_width": 37,
}


def facts_of(gpu: Gpu, memory_bytes: int = 0, context_bytes: int = 0) -> dict[str, Any]:
    """Read the lines as the library does: a key, "=", and the rest of the line."""
    text = card_facts(
        gpu, memory_bytes=memory_bytes or gpu.memory_bytes, context_bytes=context_bytes or gpu.context_bytes
    )
    pairs = (line.split("=", 1) for line in text.splitlines())
    return {key: json.loads(value) if key != "name" else value for key, value in pairs}


def test_h200_equals_the_measured_device() -> None:
    facts = facts_of(find_gpu("h200"))
    assert {key: facts[key] for key in ATTRIBUTES} == {
        key: MEASURED["attributes"][str(number)] for key, number in ATTRIBUTES.items()
    }
    assert facts["name"] == MEASURED["properties"]["torch"]["name"]
    assert facts["memory"] == MEASURED["memory after"]["total"]
    assert facts["context"] == MEASURED["memory after"]["cudnn"]
    assert facts["count"] == 1


def test_cudnn_device_of_the_h200_equals_its_own() -> None:
    device = cudnn_device(find_gpu("h200"), find_gpu("h200").memory_bytes)
    assert {**device, "pciDeviceId": MEASURED["cudnn device"]["pciDeviceId"]} == MEASURED["cudnn device"]


def test_t4() -> None:
    """Figures of deviceQuery on a T4, and the 1024 threads, 16 blocks and 64 KiB of compute capability 7.5."""
    facts = facts_of(find_gpu("t4"), memory_bytes=15_637_086_208, context_bytes=120_586_240)
    device = facts.pop("cudnn")
    assert facts == {
        "name": "Tesla T4",
        "memory": 15_637_086_208,
        "context": 120_586_240,
        "count": 1,
        "major": 7,
        "minor": 5,
        "multiprocessors": 40,
        "threads_per_multiprocessor": 1024,
        "blocks_per_multiprocessor": 16,
        "registers_per_multiprocessor": 65536,
        "shared_per_multiprocessor": 65536,
        "shared_per_block_optin": 65536,
        "reserved_shared_per_block": 0,
        "l2": 4194304,
        "clock_khz": 1590000,
        "memory_clock_khz": 5001000,
        "bus_width": 256,
    }
    assert (device["deviceVer"], device["multiProcessorCount"], device["maxThreadsPerSM"]) == (750, 40, 1024)


@pytest.mark.parametrize("gpu", all_gpus("nvidia"), ids=lambda gpu: gpu.name)
def test_facts_fit_the_library(gpu: Gpu) -> None:
    """Its buffers hold 255 and 4095 characters, its integers 31 bits; cuDNN wants every key of a real device."""
    facts = facts_of(gpu)
    assert len(facts["name"]) < 256
    assert len(json.dumps(facts["cudnn"])) < 4096
    assert facts["cudnn"].keys() == MEASURED["cudnn device"].keys()
    assert all(0 <= facts[key] < 2**31 for key in ATTRIBUTES)


def test_memory_is_that_of_the_question() -> None:
    facts = facts_of(find_gpu("t4"), memory_bytes=8 * 2**30, context_bytes=2**20)
    assert (facts["memory"], facts["context"], facts["cudnn"]["totalGlobalMem"]) == (8 * 2**30, 2**20, 8 * 2**30)


def test_amd_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="mi300x has no CUDA"):
        card_facts(find_gpu("mi300x"), memory_bytes=2**30, context_bytes=2**20)
