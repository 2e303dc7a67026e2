"""How a calibration is shown: figures are whole at every width, and nothing is called measured that is assumed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.calibrations import calibration
from vram_cli.hardware.calibration import Calibration
from vram_cli.report.answers.calibration import calibrations_document
from vram_cli.report.formats.json import calibrations_to_json
from vram_cli.report.formats.text import to_text
from vram_cli.units import format_bytes

from .drawing import draw


def text(*calibrations: Calibration, width: int = 80) -> str:
    return draw(to_text(calibrations_document(calibrations)), width)


def test_calibration_at_80_columns(golden: Callable[[str, str], str]) -> None:
    drawn = text(calibration("rtx-4060-ti-16gb"))
    assert drawn == golden("calibration-80", drawn)


@pytest.mark.parametrize("width", range(60, 141, 8))
def test_figures_are_whole_at_every_width(width: int) -> None:
    made = calibration("rtx-pro-6000")
    drawn = text(made, width=width)
    assert max(map(len, drawn.splitlines())) <= width
    terms = made.memory_bytes, made.context_bytes, made.workspaces.matrix_products, made.workspaces.convolutions
    for size in (*terms, *(case.measured_allocated_bytes for case in made.cases)):
        assert format_bytes(size) in drawn
    for figure in (f"~{format_bytes(made.gpu.context_bytes)}", "+8.4 %", "12,288"):
        assert figure in drawn


def test_several_calibrations_and_none() -> None:
    both = text(calibration("t4"), calibration("l4"))
    assert both.index("Tesla T4, calibrated 2026-11-24") < both.index("\n\nNVIDIA L4, calibrated 2026-11-24")
    assert text().startswith("No calibrations saved")


def test_json_holds_each_as_it_is_exported() -> None:
    made = calibration()
    (written,) = json.loads(calibrations_to_json([made]))["calibrations"]
    assert Calibration.model_validate_json(json.dumps(written), strict=True) == made
