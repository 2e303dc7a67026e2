"""The catalogue of GPUs: every entry is complete and plausible, and is found by any spelling of its name."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu, recognise_gpu
from vram_cli.units import GIB, MIB

REQUIRED = """
    p100 v100-16gb v100-32gb t4 a10 a30 a40 a100-40gb a100-80gb l4 l40s rtx-6000-ada rtx-pro-6000 h100 h200 b200
    rtx-2060 rtx-2070 rtx-2080 rtx-2080-ti rtx-3060 rtx-3070 rtx-3080 rtx-3090 rtx-4060 rtx-4070 rtx-4080 rtx-4090
    rtx-5060 rtx-5070 rtx-5080 rtx-5090 mi210 mi250 mi300x
"""

each_gpu = pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)


@pytest.mark.parametrize("name", REQUIRED.split())
def test_required_gpu_is_in_the_catalogue(name: str) -> None:
    assert find_gpu(name) in all_gpus()


@each_gpu
def test_memory_is_slightly_below_the_nominal_size(gpu: Gpu) -> None:
    nominal = int(gpu.label.removesuffix(" GB")) * GIB
    assert 0.9 * nominal < gpu.memory_bytes <= nominal


@each_gpu
def test_context_size_is_plausible(gpu: Gpu) -> None:
    assert 80 * MIB <= gpu.context_bytes <= 720 * MIB


@each_gpu
def test_nvidia_gpus_have_a_supported_compute_capability(gpu: Gpu) -> None:
    assert (gpu.compute_capability is None) == (gpu.vendor == "AMD")
    assert gpu.compute_capability is None or (6, 0) <= gpu.compute_capability <= (12, 1)


@each_gpu
def test_nvidia_gpus_have_limits_and_properties(gpu: Gpu) -> None:
    assert (gpu.limits is None) == (gpu.properties is None) == (gpu.vendor == "AMD")


@pytest.mark.parametrize("gpu", all_gpus("nvidia"), ids=lambda gpu: gpu.name)
def test_memory_clock_and_bus_width_give_the_bandwidth(gpu: Gpu) -> None:
    _, _, properties = gpu.cuda()
    gb_s = 2 * properties.memory_clock_mhz * properties.bus_width_bits / 8 / 1000
    assert gb_s == pytest.approx(gpu.bandwidth_gb_s, rel=0.01)


@pytest.mark.parametrize("gpu", all_gpus("nvidia"), ids=lambda gpu: gpu.name)
def test_limits_of_a_multiprocessor_agree(gpu: Gpu) -> None:
    _, limits, _ = gpu.cuda()
    assert limits.threads_per_multiprocessor % 32 == 0
    assert limits.shared_memory_per_block_optin <= limits.shared_memory_per_multiprocessor
    if limits.reserved_shared_memory_per_block:  # from compute capability 8.0 on, one block may have all the rest
        rest = limits.shared_memory_per_multiprocessor - limits.reserved_shared_memory_per_block
        assert limits.shared_memory_per_block_optin == rest


def test_amd_gpu_has_no_cuda() -> None:
    with pytest.raises(ConfigError, match="mi300x has no CUDA"):
        find_gpu("mi300x").cuda()


@pytest.mark.parametrize(
    ("name", "driver_name"),
    [
        ("rtx-3080-12gb", "NVIDIA GeForce RTX 3080"),
        ("a100-80gb", "NVIDIA A100-SXM4-80GB"),
        ("a100-80gb-pcie", "NVIDIA A100 80GB PCIe"),
        ("h200", "NVIDIA H200"),
    ],
)
def test_driver_name_has_the_memory_size_only_if_the_driver_writes_it(name: str, driver_name: str) -> None:
    assert find_gpu(name).driver_name == driver_name


@each_gpu
def test_gpu_is_found_by_each_of_its_names(gpu: Gpu) -> None:
    for name in (gpu.name, gpu.product, f"{gpu.name} {gpu.label}", *gpu.aliases):
        assert find_gpu(name) is gpu
        assert find_gpu(name.upper().replace("-", "_")) is gpu


def test_names_are_unique() -> None:
    names = Counter(name.lower() for gpu in all_gpus() for name in {gpu.name, gpu.product, *gpu.aliases})
    assert names.most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("4090", "rtx-4090"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("rtx4070tisuper", "rtx-4070-ti-super"),
        ("Tesla T4 16GB", "t4"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("RTX 3080 10 GB", "rtx-3080"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_spellings_of_names(written: str, name: str) -> None:
    assert find_gpu(written).name == name


@pytest.mark.parametrize(
    ("written", "suggested"),
    [
        ("rtx-4900", "rtx-4090"),
        ("a100", "a100-40gb, a100-80gb"),
        ("RTX 4060 Ti", "rtx-4060-ti-8gb, rtx-4060-ti-16gb"),
        ("h1000", "h100"),
        ("mi300", "mi300x"),
    ],
)
def test_unknown_name_gets_a_suggestion(written: str, suggested: str) -> None:
    with pytest.raises(ConfigError, match="unknown GPU") as error:
        find_gpu(written)
    assert written in error.value.message
    assert f"did you mean {suggested}" in error.value.hint
    assert "--memory-limit" in error.value.hint


@pytest.mark.parametrize("written", ["", "toaster"])
def test_name_like_no_gpu_gets_no_suggestion(written: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_gpu(written)
    assert error.value.hint.startswith("`vram gpus`")


@each_gpu
@pytest.mark.parametrize("factor", [0.94, 1, 1.06])
def test_gpu_is_recognised_from_its_driver(gpu: Gpu, factor: float) -> None:
    assert recognise_gpu(gpu.driver_name, int(factor * gpu.memory_bytes)) is gpu
    assert recognise_gpu(gpu.product, gpu.memory_bytes) is gpu


@pytest.mark.parametrize(
    ("product", "size"),
    [
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 8 * GIB),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5 * GIB),
        ("Tesla T4", 8 * GIB),
    ],
)
def test_laptop_or_partial_gpu_is_not_recognised(product: str, size: int) -> None:
    with pytest.raises(ConfigError, match=product) as error:
        recognise_gpu(product, size)
    assert "--overhead" in error.value.hint


def test_filter_matches_all_words() -> None:
    assert [gpu.name for gpu in all_gpus("A100")] == ["a100-40gb", "a100-80gb", "a100-80gb-pcie"]
    assert {gpu.vendor for gpu in all_gpus("amd")} == {"AMD"}
    assert "rtx-4090" in {gpu.name for gpu in all_gpus("ada 24gb")}
    assert {gpu.label for gpu in all_gpus("ada 24GB")} == {"24 GB"}
    assert all_gpus("toaster") == ()


def test_t4_figures() -> None:
    t4 = find_gpu("t4")
    assert (t4.memory_bytes, t4.memory.status) == (15_637_086_208, "measured")
    assert (t4.compute_capability, t4.multiprocessors) == ((7, 5), 40)


def test_unmeasured_context_is_estimated() -> None:
    h100 = find_gpu("h100")
    assert h100.context.status == "assumed"
    assert h100.context_bytes == 32 * MIB + 132 * 2048 * 2200


@pytest.mark.parametrize(
    "gpu", [gpu for gpu in all_gpus("nvidia") if gpu.context.status == "measured"], ids=lambda gpu: gpu.name
)
def test_context_estimate_is_within_its_stated_error(gpu: Gpu) -> None:
    assert gpu.limits is not None
    estimate = 32 * MIB + gpu.multiprocessors * gpu.limits.threads_per_multiprocessor * 2200
    assert estimate == pytest.approx(gpu.context_bytes, rel=0.19)
    assert "19 %" in find_gpu("h100").context.source


def test_gpu_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        find_gpu("t4").name = "t5"  # type: ignore[misc]
