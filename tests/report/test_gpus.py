"""How the catalogue of GPUs is shown: what was measured is told from what is assumed, and nothing is cut."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu
from vram_cli.report.gpus import gpu_in_full, gpus_as_json, gpus_table
from vram_cli.units import format_bytes

from .drawing import draw

CARDS = tuple(map(find_gpu, ("t4", "a100-80gb-pcie", "rtx-pro-6000", "rtx-4070-ti-super", "rtx-4070", "mi300x")))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_some_cards(width: int, golden: Callable[[str, str], str]) -> None:
    drawn = draw(gpus_table(CARDS), width)
    assert drawn == golden(f"gpus-{width}", drawn)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_one_card(width: int, golden: Callable[[str, str], str]) -> None:
    drawn = draw(gpu_in_full(find_gpu("h100"), all_gpus("h100")), width)
    assert drawn == golden(f"gpu-{width}", drawn)


@pytest.mark.parametrize("width", range(60, 141, 8))
def test_every_cards_name_and_figures_are_whole_at_every_width(width: int) -> None:
    text = draw(gpus_table(all_gpus()), width)
    assert max(map(len, text.splitlines())) <= width
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for gpu in all_gpus():
        assert format_bytes(gpu.memory_bytes) in rows[gpu.name]
        assert format_bytes(gpu.context_bytes) in rows[gpu.name]
    assert "…" not in text


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_assumed_figures_are_marked(gpu: Gpu) -> None:
    row = next(line for line in draw(gpus_table([gpu]), 80).splitlines() if line.startswith(gpu.name))
    for figure in (gpu.memory, gpu.context):
        assert (f"~{format_bytes(figure.bytes)}" in row) is (figure.status == "assumed")
    in_full = " ".join(draw(gpu_in_full(gpu), 80).split())
    for figure in (gpu.memory, gpu.context):
        assert f"{figure.bytes:,} bytes, {figure.status} {' '.join(figure.source.split())}" in in_full


def test_json_has_every_figure_with_its_source() -> None:
    cards = json.loads(gpus_as_json(all_gpus()))["gpus"]
    assert tuple(Gpu(**card) for card in cards) == all_gpus()
    assert next(card for card in cards if card["name"] == "t4")["compute_capability"] == "7.5"


def test_one_card_names_those_that_may_have_been_meant() -> None:
    assert "see also" in draw(gpu_in_full(find_gpu("h100"), all_gpus("h100")), 80)
    assert "see also" not in draw(gpu_in_full(find_gpu("t4"), all_gpus("t4")), 80)
