"""`vram calibrate` on a machine without a GPU: show, export, import and remove."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.calibrations import calibration
from tests.cli.running import Answer, vram, vram_here
from vram_cli.hardware.calibration_store import to_json
from vram_cli.units import MIB

Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs `vram` with its own config folder."""
    return lambda *arguments: vram_here(*arguments, folder=tmp_path, env={"VRAM_CONFIG_DIR": str(tmp_path / "config")})


@pytest.fixture
def t4(tmp_path: Path) -> Path:
    """Return a calibration file from another machine with this torch."""
    path = tmp_path / "t4.json"
    path.write_text(to_json(calibration(torch=str(torch.__version__))))
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_without_a_gpu_nothing_is_written(tmp_path: Path) -> None:
    environment = {**os.environ, "VRAM_CONFIG_DIR": str(tmp_path / "config"), "CUDA_VISIBLE_DEVICES": ""}
    answer = vram("calibrate", folder=tmp_path, env=environment)
    assert (answer.code, answer.stdout) == (3, "")
    assert "error: cannot calibrate: PyTorch" in answer.stderr
    assert "hint: " in answer.stderr
    assert "vram calibrate --import FILE" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_predictions_use_an_imported_calibration(run: Run, t4: Path, tmp_path: Path) -> None:
    fake = ("--set", "device.engine=fake-tensors")  # the virtual GPU takes the context alone
    arguments = ("breakdown", "--config", "cnn_cifar10.yaml", "--gpu", "t4", *fake, "--json", "--quiet")
    plain = json.loads(run(*arguments).stdout)
    answer = run("calibrate", "--import", str(t4))
    assert answer.code == 0, answer.stderr
    assert answer.stdout == ""
    assert files(tmp_path) == {"t4.json", "config/calibrations/t4.json"}
    assert str(tmp_path / "config" / "calibrations" / "t4.json") in answer.stderr
    calibrated = json.loads(run(*arguments).stdout)

    def row(result: dict[str, dict[str, list[dict[str, int]]]], name: str) -> int:
        return next(row["bytes"] for row in result["breakdown"]["rows"] if row["category"] == name)

    assert row(calibrated, "context") == 300 * MIB != row(plain, "context")
    assert row(calibrated, "workspaces") == row(plain, "workspaces") + 40 * MIB
    assert "context and workspaces calibrated" in calibrated["run"]["device"]["accuracy"]
    assert "workspaces calibrated" not in plain["run"]["device"]["accuracy"]


def test_show_export_and_remove(run: Run, t4: Path, tmp_path: Path) -> None:
    assert run("calibrate", "--show").stdout.startswith("No calibrations saved")
    run("calibrate", "--import", "t4.json")
    assert run("calibrate", "--show").stdout.startswith("Tesla T4, calibrated 2026-11-24")
    (shown,) = json.loads(run("calibrate", "--show", "--json").stdout)["calibrations"]
    assert shown["context_bytes"] == 300 * MIB

    assert run("calibrate", "--export", "out.json").code == 0
    assert (tmp_path / "out.json").read_text() == t4.read_text()
    (tmp_path / "out.json").write_text("mine")
    refused = run("calibrate", "--export", "out.json")
    assert (refused.code, (tmp_path / "out.json").read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert run("calibrate", "--export", "out.json", "--force").code == 0
    assert (tmp_path / "out.json").read_text() == t4.read_text()

    removed = run("calibrate", "--remove", "--gpu", "Tesla T4")
    assert removed.code == 0
    assert files(tmp_path) == {"t4.json", "out.json"}
    assert run("calibrate", "--remove").code == 2


def test_import_replaces_only_with_force(run: Run, t4: Path, tmp_path: Path) -> None:
    saved = tmp_path / "config" / "calibrations" / "t4.json"
    assert run("calibrate", "--import", "t4.json").code == 0
    assert run("calibrate", "--import", "t4.json").code == 0  # the same one
    (tmp_path / "other.json").write_text(to_json(calibration(torch="2.9.0", context_bytes=77 * MIB)))
    refused = run("calibrate", "--import", "other.json")
    assert refused.code == 2
    assert "Tesla T4 has a calibration already, of 2026-11-24" in refused.stderr
    assert "other.json is of 2026-11-24, torch 2.9.0" in refused.stderr
    assert saved.read_text() == t4.read_text()
    forced = run("calibrate", "--import", "other.json", "--force")
    assert forced.code == 0
    assert "replacing the earlier one" in forced.stderr
    assert saved.read_text() == (tmp_path / "other.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--import", "nothing.json"], ["nothing.json", "cannot be read"]),
        (["--export", "out.json"], ["no calibration is saved", "vram calibrate"]),
        (["--export", "out.json", "--gpu", "l4"], ["no calibration of NVIDIA L4"]),
        (["--remove", "--gpu", "l44"], ["unknown GPU 'l44'", "did you mean l4"]),
        (["--show", "--remove"], ["--show and --remove"]),
        (["--gpu", "t4"], ["--gpu t4", "--device"]),
        (["--device", "cpu"], ["'cpu'", "cuda:N"]),
    ],
)
def test_bad_input(arguments: list[str], words: list[str], run: Run) -> None:
    answer = run("calibrate", *arguments)
    assert (answer.code, answer.stdout) == (2, "")
    for word in ("error: ", "hint: ", *words):
        assert word in answer.stderr
    assert "Traceback" not in answer.stderr


def test_export_of_several_needs_a_name(run: Run, t4: Path, tmp_path: Path) -> None:
    (tmp_path / "l4.json").write_text(to_json(calibration("l4")))
    for name in ("t4.json", "l4.json"):
        run("calibrate", "--import", name)
    refused = run("calibrate", "--export", "out.json")
    assert refused.code == 2
    assert "t4, l4" in refused.stderr
    assert run("calibrate", "--export", "out.json", "--gpu", "l4").code == 0
    assert json.loads((tmp_path / "out.json").read_text())["product"] == "NVIDIA L4"
    both = json.loads(run("calibrate", "--show", "--json").stdout)["calibrations"]
    assert [each["product"] for each in both] == ["Tesla T4", "NVIDIA L4"]


def test_broken_file_stops_predictions_and_can_be_removed(run: Run, t4: Path, tmp_path: Path) -> None:
    run("calibrate", "--import", "t4.json")
    saved = tmp_path / "config" / "calibrations" / "t4.json"
    saved.write_text("{}")
    answer = run("breakdown", "--gpu", "t4", "--quiet")
    assert (answer.code, answer.stdout) == (2, "")
    assert str(saved) in answer.stderr
    assert "vram calibrate --remove --gpu t4" in answer.stderr
    assert run("calibrate", "--remove", "--gpu", "t4").code == 0
    assert not saved.exists()
