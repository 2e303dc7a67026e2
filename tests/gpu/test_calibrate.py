"""`vram calibrate` on a CUDA (or ROCm) device of the catalogue that is otherwise idle. Run with `make gpu-test`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.running import vram
from tests.gpu.conftest import Driver
from vram_cli.commands.calibrate import MOST_CONTEXT, RUNS
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.calibration_store import read_calibration
from vram_cli.units import MIB

pytestmark = pytest.mark.silicon("measures what predictions leave out")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "VRAM_CONFIG_DIR": str(tmp_path_factory.mktemp("config"))}


@pytest.fixture(scope="module")
def made(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    folder = tmp_path_factory.mktemp("here")
    answer = vram("calibrate", "--quiet", folder=folder, env=env)
    assert answer.code == 0, answer.stderr
    assert "calibrated" in answer.stdout
    assert list(folder.iterdir()) == []
    (path,) = (path for path in Path(env["VRAM_CONFIG_DIR"]).rglob("*") if path.is_file())
    return read_calibration(path)


def breakdown(folder: Path, env: dict[str, str], *arguments: str) -> dict[str, Any]:
    answer = vram(
        "breakdown", "--config", "resnet18_cifar10.yaml", "--batch-size", "256", *arguments, "--json", "--quiet",
        folder=folder, env=env,
    )  # fmt: skip
    assert answer.code == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def test_the_record_is_of_this_card(made: Calibration, driver: Driver) -> None:
    assert made.product == driver.name
    assert made.memory_bytes == driver.memory_bytes
    assert made.versions["torch"] == torch.__version__
    assert 50 * MIB < made.context_bytes <= MOST_CONTEXT
    assert len(made.cases) == 2 * len(RUNS)


def test_workspaces_are_far_smaller_than_the_runs(made: Calibration) -> None:
    for case in made.cases:
        assert abs(case.shortfall_bytes) < 0.3 * case.measured_allocated_bytes


def test_a_prediction_for_this_card_takes_it_and_is_near_the_real_step(
    made: Calibration, env: dict[str, str], tmp_path: Path
) -> None:
    predicted = breakdown(tmp_path, env, "--gpu", made.gpu.name)
    real = breakdown(tmp_path, env, "--device", "cuda")
    assert "context and workspaces calibrated" in predicted["run"]["device"]["accuracy"]
    assert predicted["run"]["device"]["capacity_bytes"] == real["run"]["device"]["capacity_bytes"]
    peaks = [result["trials"][0]["peak_reserved_bytes"] for result in (predicted, real)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.2)
