"""The catalogue of GPUs: every card is complete and plausible, and is found however people write its name."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from vram_cli.errors import ConfigError
from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu, recognise_gpu
from vram_cli.units import GIB, MIB

PROMISED = """
    p100 v100-16gb v100-32gb t4 a10 a30 a40 a100-40gb a100-80gb l4 l40s rtx-6000-ada rtx-pro-6000 h100 h200 b200
    rtx-2060 rtx-2070 rtx-2080 rtx-2080-ti rtx-3060 rtx-3070 rtx-3080 rtx-3090 rtx-4060 rtx-4070 rtx-4080 rtx-4090
    rtx-5060 rtx-5070 rtx-5080 rtx-5090 mi210 mi250 mi300x
"""

each_card = pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)


@pytest.mark.parametrize("name", PROMISED.split())
def test_the_promised_cards_are_there(name: str) -> None:
    assert find_gpu(name) in all_gpus()


@each_card
def test_a_card_reports_a_little_less_than_is_sold(gpu: Gpu) -> None:
    sold = int(gpu.label.removesuffix(" GB")) * GIB
    assert 0.9 * sold < gpu.memory_bytes <= sold


@each_card
def test_a_context_is_tens_to_hundreds_of_mib(gpu: Gpu) -> None:
    assert 80 * MIB <= gpu.context_bytes <= 700 * MIB


@each_card
def test_nvidia_cards_have_a_compute_capability_that_pytorch_still_knows(gpu: Gpu) -> None:
    assert (gpu.compute_capability is None) == (gpu.vendor == "AMD")
    assert gpu.compute_capability is None or (6, 0) <= gpu.compute_capability <= (12, 1)


@each_card
def test_a_card_is_found_by_each_of_its_names(gpu: Gpu) -> None:
    for name in (gpu.name, gpu.product, f"{gpu.name} {gpu.label}", *gpu.aliases):
        assert find_gpu(name) is gpu
        assert find_gpu(name.upper().replace("-", "_")) is gpu


def test_no_two_cards_share_a_name() -> None:
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
def test_names_are_taken_as_people_write_them(written: str, name: str) -> None:
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
def test_an_unknown_name_gets_the_nearest_suggested(written: str, suggested: str) -> None:
    with pytest.raises(ConfigError, match="unknown GPU") as error:
        find_gpu(written)
    assert written in error.value.message
    assert f"did you mean {suggested}" in error.value.hint
    assert "--memory-limit" in error.value.hint


@pytest.mark.parametrize("written", ["", "toaster"])
def test_a_name_like_no_card_gets_no_suggestion(written: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_gpu(written)
    assert error.value.hint.startswith("`vram gpus`")


@each_card
@pytest.mark.parametrize("share", [0.94, 1, 1.06])
def test_a_card_is_recognised_by_what_its_driver_says(gpu: Gpu, share: float) -> None:
    named_by_the_driver = gpu.product.removesuffix(" " + gpu.label.replace(" ", ""))
    assert recognise_gpu(named_by_the_driver, int(share * gpu.memory_bytes)) is gpu
    assert recognise_gpu(gpu.product, gpu.memory_bytes) is gpu


@pytest.mark.parametrize(
    ("product", "size"),
    [
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 8 * GIB),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5 * GIB),
        ("Tesla T4", 8 * GIB),
    ],
)
def test_a_like_card_or_a_part_of_one_is_not_taken_for_it(product: str, size: int) -> None:
    with pytest.raises(ConfigError, match=product) as error:
        recognise_gpu(product, size)
    assert "--overhead" in error.value.hint


def test_a_filter_keeps_the_cards_that_have_all_its_words() -> None:
    assert [gpu.name for gpu in all_gpus("A100")] == ["a100-40gb", "a100-80gb", "a100-80gb-pcie"]
    assert {gpu.vendor for gpu in all_gpus("amd")} == {"AMD"}
    assert "rtx-4090" in {gpu.name for gpu in all_gpus("ada 24gb")}
    assert {gpu.label for gpu in all_gpus("ada 24GB")} == {"24 GB"}
    assert all_gpus("toaster") == ()


def test_the_t4_is_the_one_of_a_free_notebook() -> None:
    t4 = find_gpu("t4")
    assert (t4.memory_bytes, t4.memory.status) == (15_637_086_208, "measured")
    assert (t4.compute_capability, t4.multiprocessors) == ((7, 5), 40)


def test_contexts_nobody_measured_follow_the_model_and_say_so() -> None:
    h100 = find_gpu("h100")
    assert h100.context.status == "assumed"
    assert h100.context_bytes == 32 * MIB + 132 * 2048 * 2200


@pytest.mark.parametrize(
    "gpu", [gpu for gpu in all_gpus("nvidia") if gpu.context.status == "measured"], ids=lambda gpu: gpu.name
)
def test_the_model_of_contexts_is_as_close_to_the_measured_ones_as_it_says(gpu: Gpu) -> None:
    threads = {(7, 5): 1024, (8, 0): 2048, (8, 6): 1536, (8, 9): 1536, (9, 0): 2048, (12, 0): 1536}
    assert gpu.compute_capability is not None
    modelled = 32 * MIB + gpu.multiprocessors * threads[gpu.compute_capability] * 2200
    assert modelled == pytest.approx(gpu.context_bytes, rel=0.19)
    assert "19 %" in find_gpu("h100").context.source


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        find_gpu("t4").name = "t5"  # type: ignore[misc]
