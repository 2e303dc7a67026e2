"""Memory that grows from step to step is told on every ground, and nothing else is called growth."""

from __future__ import annotations

import gc

import pytest

from tests.trainings.conftest import Measured
from tests.trainings.grounds import FAKE, REAL, VIRTUAL, N
from tests.trainings.steps import WIDTH
from tests.trainings.trainings import CONSTANT, GROWING
from vram_cli.records import Measurement, Phase

pytestmark = pytest.mark.slow

OUTPUT = N * 2 * 4
RATES = {
    # Each graph keeps the output of ReLU, the logarithms of the probabilities, and a few numbers.
    "keeps losses with their graphs": range(N * WIDTH * 4 + OUTPUT, N * WIDTH * 4 + OUTPUT + 2048),
    "keeps predictions": range(OUTPUT, OUTPUT + 512),
    "begins to keep outputs in the tenth step": range(OUTPUT // 2, OUTPUT + 512),
}


@pytest.mark.parametrize("ground", [REAL, FAKE, VIRTUAL])
@pytest.mark.parametrize("name", GROWING)
def test_growth_is_told_with_its_rate_phase_and_modules(name: str, ground: str, measured: Measured) -> None:
    measurement = measured(name, ground)
    assert isinstance(measurement, Measurement)
    assert measurement.fits
    assert measurement.steps == (20 if "tenth" in name else 3)
    assert measurement.growth is not None
    assert measurement.growth.bytes_per_step in RATES[name]
    assert measurement.growth.phase is Phase.FORWARD
    assert not measurement.growth.is_garbage
    if "losses" in name:
        assert set(measurement.growth.modules) <= {"first", "last"}


def test_tensors_in_reference_cycles_are_told_apart(measured: Measured) -> None:
    gc.disable()
    try:
        measurement = measured("leaves reference cycles, which Python collects", REAL)
    finally:
        gc.enable()
    assert isinstance(measurement, Measurement)
    assert measurement.growth is not None
    assert measurement.growth.is_garbage
    assert measurement.growth.bytes_per_step in range(OUTPUT, OUTPUT + 512)


@pytest.mark.parametrize("ground", [REAL, FAKE, VIRTUAL])
@pytest.mark.parametrize("name", CONSTANT)
def test_what_is_made_late_or_freed_every_other_step_is_no_growth(name: str, ground: str, measured: Measured) -> None:
    measurement = measured(name, ground)
    assert isinstance(measurement, Measurement)
    assert measurement.fits
    assert measurement.growth is None
