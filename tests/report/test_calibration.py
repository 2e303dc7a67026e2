"""How a calibration is shown: figures are whole at every width, and nothing is called measured that is assumed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.calibrations import calibration
from vram_cli.hardware.calibration import Calibration
from vram_cli.report.calibration import calibration_in_full, calibrations_as_json, calibrations_in_full
from vram_cli.units import format_bytes

from .drawing import draw


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_calibration(width: int, golden: Callable[[str, str], str]) -> None:
    drawn = draw(calibration_in_full(calibration("rtx-4060-ti-16gb")), width)
    assert drawn == golden(f"calibration-{width}", drawn)


@pytest.mark.parametrize("width", range(60, 141, 8))
def test_figures_are_whole_at_every_width(width: int) -> None:
    made = calibration("rtx-pro-6000")
    text = draw(calibration_in_full(made), width)
    assert max(map(len, text.splitlines())) <= width
    terms = made.memory_bytes, made.context_bytes, made.workspaces.matrix_products, made.workspaces.convolutions
    for size in (*terms, *(case.measured_allocated_bytes for case in made.cases)):
        assert format_bytes(size) in text
    for figure in (f"~{format_bytes(made.gpu.context_bytes)}", "+8.4 %", "12,288"):
        assert figure in text


def test_several_stand_one_below_the_other_and_none_is_told() -> None:
    both = draw(calibrations_in_full([calibration("t4"), calibration("l4")]), 80)
    assert both.index("Tesla T4, calibrated 2026-11-24") < both.index("\n\nNVIDIA L4, calibrated 2026-11-24")
    assert draw(calibrations_in_full([]), 80).startswith("No calibration is kept")


def test_json_holds_each_as_it_is_exported() -> None:
    made = calibration()
    (written,) = json.loads(calibrations_as_json([made]))["calibrations"]
    assert Calibration.model_validate_json(json.dumps(written), strict=True) == made
