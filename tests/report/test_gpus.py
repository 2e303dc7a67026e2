"""How the catalogue of GPUs is shown: what was measured is told from what is assumed, and nothing is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu
from vram_cli.report.answers.gpus import gpu_document, gpus_document
from vram_cli.report.formats.json import gpus_to_json
from vram_cli.report.formats.text import to_text
from vram_cli.units import format_bytes
from vram_cli.virtual_gpu.cudnn_device import cudnn_device

from .drawing import draw

GPUS = tuple(map(find_gpu, ("t4", "a100-80gb-pcie", "rtx-pro-6000", "rtx-4070-ti-super", "rtx-4070", "mi300x")))


def listing(gpus: Sequence[Gpu], width: int = 80) -> str:
    return draw(to_text(gpus_document(gpus)), width)


def _without_derived(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "cudnn_device"}


def full(gpu: Gpu, related: Sequence[Gpu] = (), width: int = 80) -> str:
    return draw(to_text(gpu_document(gpu, related)), width)


def test_list_of_gpus(golden: Callable[[str, str], str]) -> None:
    drawn = listing(GPUS)
    assert drawn == golden("gpus-80", drawn)


def test_one_gpu(golden: Callable[[str, str], str]) -> None:
    drawn = full(find_gpu("h100"), all_gpus("h100"))
    assert drawn == golden("gpu-80", drawn)


@pytest.mark.parametrize("width", range(60, 141, 8))
def test_names_and_figures_are_whole_at_any_width(width: int) -> None:
    text = listing(all_gpus(), width)
    assert max(map(len, text.splitlines())) <= width
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for gpu in all_gpus():
        assert format_bytes(gpu.memory_bytes) in rows[gpu.name]
        assert format_bytes(gpu.context_bytes) in rows[gpu.name]
    assert "…" not in text


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_assumed_figures_are_marked(gpu: Gpu) -> None:
    row = next(line for line in listing([gpu]).splitlines() if line.startswith(gpu.name))
    for figure in (gpu.memory, gpu.context):
        assert (f"~{format_bytes(figure.bytes)}" in row) is (figure.status == "assumed")
    in_full = " ".join(full(gpu).split())
    for figure in (gpu.memory, gpu.context):
        assert f"{figure.bytes:,} bytes, {figure.status} {' '.join(figure.source.split())}" in in_full


def test_json_has_every_figure_with_its_source() -> None:
    entries = json.loads(gpus_to_json(all_gpus()))["gpus"]
    t4 = next(entry for entry in entries if entry["name"] == "t4")
    assert t4["compute_capability"] == "7.5"
    assert t4["cudnn_device"] == cudnn_device(find_gpu("t4"), find_gpu("t4").memory_bytes)
    assert {entry["vendor"] for entry in entries if entry["cudnn_device"] is None} == {"AMD"}
    assert tuple(Gpu(**_without_derived(entry)) for entry in entries) == all_gpus()


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_device_properties_have_their_sources(gpu: Gpu) -> None:
    in_full = full(gpu, width=120)
    for part in filter(None, (gpu.limits, gpu.properties)):
        assert part.source in in_full
    assert ("L2 cache" in in_full) is (gpu.vendor == "NVIDIA")


def test_one_gpu_names_others_that_match() -> None:
    assert "see also" in full(find_gpu("h100"), all_gpus("h100"))
    assert "see also" not in full(find_gpu("t4"), all_gpus("t4"))
