"""How the catalogue of GPUs is shown: what was measured is told from what is assumed, and nothing is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from vram_cli.hardware.gpus import Gpu, all_gpus, find_gpu
from vram_cli.report.answers.gpus import gpu_document, gpus_document
from vram_cli.report.formats.json import gpus_to_json
from vram_cli.report.formats.text import to_text
from vram_cli.units import format_bytes

from .drawing import draw

GPUS = tuple(map(find_gpu, ("t4", "a100-80gb-pcie", "rtx-pro-6000", "rtx-4070-ti-super", "rtx-4070", "mi300x")))


def listing(gpus: Sequence[Gpu], width: int = 80) -> str:
    return draw(to_text(gpus_document(gpus)), width)


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
    assert tuple(Gpu(**entry) for entry in entries) == all_gpus()
    assert next(entry for entry in entries if entry["name"] == "t4")["compute_capability"] == "7.5"


def test_one_gpu_names_others_that_match() -> None:
    assert "see also" in full(find_gpu("h100"), all_gpus("h100"))
    assert "see also" not in full(find_gpu("t4"), all_gpus("t4"))
