"""The library as PyTorch and other callers of CUDA see it, with the facts of an H200, against one that was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.virtual_gpu.preloaded import preloaded_environment, run_preloaded
from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import obstacle

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "2026-11-27-h200" / "card.json").read_text())
TOTAL, FREE = MEASURED["full"]["total"], MEASURED["full"]["free"]
MIB, BLOCK = 1024**2, 2 * 1024**2

# Members of cudaDeviceProp in CUDA 13: name -> offset and bytes. Not the identity of the one H200 (UUID, PCI address),
# limits of textures, and features that the library does not have.
PROPERTIES = {
    "name": (0, 256), "totalGlobalMem": (288, 8), "sharedMemPerBlock": (296, 8), "regsPerBlock": (304, 4),
    "warpSize": (308, 4), "memPitch": (312, 8), "maxThreadsPerBlock": (320, 4), "maxThreadsDim": (324, 12),
    "maxGridSize": (336, 12), "totalConstMem": (352, 8), "major": (360, 4), "minor": (364, 4),
    "textureAlignment": (368, 8), "texturePitchAlignment": (376, 8), "multiProcessorCount": (384, 4),
    "integrated": (388, 4), "canMapHostMemory": (392, 4), "surfaceAlignment": (552, 8), "concurrentKernels": (560, 4),
    "asyncEngineCount": (584, 4), "unifiedAddressing": (588, 4), "memoryBusWidth": (592, 4), "l2CacheSize": (596, 4),
    "maxThreadsPerMultiProcessor": (604, 4), "streamPrioritiesSupported": (608, 4), "globalL1CacheSupported": (612, 4),
    "localL1CacheSupported": (616, 4), "sharedMemPerMultiprocessor": (624, 8), "regsPerMultiprocessor": (632, 4),
    "managedMemory": (636, 4), "concurrentManagedAccess": (656, 4), "computePreemptionSupported": (660, 4),
    "canUseHostPointerForRegisteredMem": (664, 4), "cooperativeLaunch": (668, 4), "sharedMemPerBlockOptin": (672, 8),
    "maxBlocksPerMultiProcessor": (688, 4), "reservedSharedMemPerBlock": (696, 8), "clusterLaunch": (748, 4),
}  # fmt: skip

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=f"no virtual GPU here: {obstacle()}")


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    environment = preloaded_environment(find_gpu("h200"), TOTAL, TOTAL - FREE)
    observations: dict[str, Any] = run_preloaded("tests.virtual_gpu.observations", environment)
    return observations


def test_properties_are_those_that_the_card_reported(seen: dict[str, Any]) -> None:
    ours, measured = bytes.fromhex(seen["properties"]), bytes.fromhex(MEASURED["properties"]["hex"])
    different = [name for name, (at, size) in PROPERTIES.items() if ours[at : at + size] != measured[at : at + size]]
    assert different == []


def test_pytorch_reads_the_properties_of_the_card(seen: dict[str, Any]) -> None:
    of_this_one = {"uuid", "pci_bus_id", "pci_device_id"}
    ours, measured = seen["properties_in_pytorch"], MEASURED["properties"]["torch"]
    compared = measured.keys() & ours.keys() - of_this_one  # versions of PyTorch differ in what they show
    assert {"name", "total_memory", "major", "multi_processor_count"} <= compared
    assert {key: ours[key] for key in compared} == {key: measured[key] for key in compared}


def test_an_attribute_is_that_of_the_card_or_absent(seen: dict[str, Any]) -> None:
    ours, measured, pci_bus = seen["attributes"], MEASURED["attributes"], "33"
    different = {key: value for key, value in ours.items() if key != pci_bus and value not in (0, measured[key])}
    assert different == {}
    assert sum(value != 0 for value in ours.values()) >= 45


def test_free_memory_is_all_but_the_context(seen: dict[str, Any]) -> None:
    assert seen["memory_before_anything"] == [FREE, TOTAL]


def test_an_allocation_takes_the_memory_that_it_takes_on_the_card(seen: dict[str, Any]) -> None:
    """Up to 1 MiB, an allocation shares a block of 2 MiB; the first of them is already there on the card."""
    measured = {row[0]: row[1:] for row in MEASURED["cudaMalloc"]}
    for request, *taken in seen["allocations"]:
        if request >= BLOCK:
            assert taken == measured[request]
        else:
            assert all(0 <= ours - real <= BLOCK for ours, real in zip(taken, measured[request], strict=True)), request


def test_a_shared_block_stays_until_its_last_allocation_is_freed(seen: dict[str, Any]) -> None:
    assert seen["small_blocks_outlive_their_neighbours"] == [2 * BLOCK, 2 * BLOCK, BLOCK, 0]


def test_freeing_what_was_never_allocated_is_an_error(seen: dict[str, Any]) -> None:
    assert seen["invalid_free"] == 1  # cudaErrorInvalidValue


def test_a_tensor_takes_memory_until_the_cache_is_emptied(seen: dict[str, Any]) -> None:
    assert seen["tensor_takes_memory"] == [100 * MIB, 0]


def test_memory_runs_out_at_the_size_of_the_card_with_pytorchs_own_error(seen: dict[str, Any]) -> None:
    full = seen["full"]
    assert full["free"] == FREE // BLOCK * BLOCK
    assert full["left"] == FREE % BLOCK
    kind, message = full["too large"]
    assert kind == "OutOfMemoryError"
    assert "CUDA out of memory. Tried to allocate 138.98 GiB. GPU 0 has a total capacity of 139.80 GiB" in message
    kind, message = full["one more"]
    assert kind == "OutOfMemoryError"
    assert "Tried to allocate 2.00 MiB." in message
    assert "of which 1.12 MiB is free." in message
    assert full["after"] == 1


def test_expandable_segments_map_pages_as_they_grow(seen: dict[str, Any]) -> None:
    segments = seen["expandable_segments"]
    assert segments["segments"] == 1
    assert segments["during"] == 3 * 20 * MIB  # pages of 20 MiB hold 45 MiB
    assert segments["after"] == 0
    assert segments["error"][0] == "OutOfMemoryError"


def test_pinned_memory_is_told_from_the_rest_of_the_host(seen: dict[str, Any]) -> None:
    assert seen["pinned_memory"] == {"pinned": True, "plain": False, "back": [0.0, 1.0, 2.0, 3.0, 4.0]}


def test_events_and_streams_are_done_as_soon_as_they_are_asked_for(seen: dict[str, Any]) -> None:
    observed = seen["events_and_streams"]
    assert observed["is current"]
    assert observed["done"] == [True, True, True]
    assert observed["milliseconds"] > 0


def test_small_copies_are_read_back_and_not_reported(seen: dict[str, Any]) -> None:
    values = [[1.0, 2.0, 3.0], 7, True, [1.0, 2.0, 3.0]]
    assert seen["copies_that_nothing_touched"] == {"values": values, "reads": []}


def test_a_computed_value_reads_as_zero_and_its_line_is_told(seen: dict[str, Any]) -> None:
    observed = seen["computed_values"]
    assert observed["values"] == [0.0, [0.0, 0.0, 0.0]]
    assert observed["reads"] == [[observed["line"], 4, 1, "computed"], [observed["line"], 12, 1, "computed"]]


def test_a_kernel_makes_a_value_unknown_and_leaves_a_longer_copy(seen: dict[str, Any]) -> None:
    assert seen["changed_in_place"] == {"values": [0.0, [5.0, 6.0, 7.0]], "kinds": ["computed", "kept"]}


def test_contents_are_forgotten_with_the_memory(seen: dict[str, Any]) -> None:
    assert seen["freed_memory"] == [7, 0]


def test_booleans_are_those_of_a_training_that_goes_well(seen: dict[str, Any]) -> None:
    assert seen["booleans"] == {
        "isfinite all": True,
        "isfinite of a sum": True,
        "isnan any": False,
        "isinf any": False,
        "all": True,
        "any": False,
        "equal": False,
    }


def test_a_size_that_depends_on_values_is_zero_and_told_as_one(seen: dict[str, Any]) -> None:
    assert seen["sizes_that_depend_on_values"] == {"shapes": [[0, 1], [0], [0]], "kinds": ["size"]}


def test_operators_that_pytorch_compiles_run(seen: dict[str, Any]) -> None:
    assert seen["kernels_compiled_at_runtime"] == [[3], [3, 5], [3, 5]]


def test_launches_have_the_limits_of_the_card(seen: dict[str, Any]) -> None:
    launches, refused, accepted = dict(seen["launches"]), [9, 9, 0], [0, 0, 0]
    assert launches.pop("text") == "invalid configuration argument"
    kind, message = launches.pop("in pytorch")
    assert kind in ("AcceleratorError", "RuntimeError")
    assert "invalid configuration argument" in message
    assert {name: status for name, status in launches.items() if status != refused} == {
        "largest": accepted,
        "most shared": accepted,
    }


def test_a_refused_function_says_its_name_once(seen: dict[str, Any]) -> None:
    refusals = seen["refusals"]
    assert "operation not supported" in refusals["off"][1]
    (name,) = refusals["names"]
    assert re.fullmatch(r"cudaEventCreateWithFlags \(observations\.py:\d+\)", name)
    assert refusals["on"] == []
    assert refusals["status"] == 15  # CUBLAS_STATUS_NOT_SUPPORTED
    assert [name.partition(" ")[0] for name in refusals["unanswered"]] == ["cublasSrotm_v2"]
    assert refusals["then"] == []
