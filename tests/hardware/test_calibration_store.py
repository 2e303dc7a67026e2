"""Calibrations are saved as one file per GPU; invalid files and files of another GPU are refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given

from tests.calibrations import calibration
from tests.hardware.test_calibration import SOME_CASES
from vram_cli.errors import ConfigError, MachineError
from vram_cli.hardware.calibration import Calibration, Case
from vram_cli.hardware.calibration_store import (
    calibrated_gpus,
    config_folder,
    load_calibration,
    read_calibration,
    remove_calibration,
    save_calibration,
    to_json,
)
from vram_cli.hardware.gpus import find_gpu
from vram_cli.units import MIB

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has %APPDATA%")
T4 = find_gpu("t4")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAM_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.mark.parametrize("name", ["t4", "rtx-3080-12gb", "mi300x"])
def test_saved_calibration_is_loaded_for_its_gpu_only(name: str, folder: Path) -> None:
    saved = calibration(name)
    assert load_calibration(find_gpu(name)) is None
    assert save_calibration(saved) == folder / "calibrations" / f"{name}.json"
    assert load_calibration(find_gpu(name)) == saved
    assert calibrated_gpus() == (find_gpu(name),)
    assert load_calibration(find_gpu("a100-80gb")) is None
    assert [file.name for file in folder.rglob("*") if file.is_file()] == [f"{name}.json"]


def test_gpus_with_the_same_product_name_have_separate_files() -> None:
    twelve = calibration("rtx-3080-12gb", product="NVIDIA GeForce RTX 3080")
    assert save_calibration(twelve).name == "rtx-3080-12gb.json"


def test_saving_again_replaces_the_file(folder: Path) -> None:
    save_calibration(calibration())
    save_calibration(calibration(context_bytes=77 * MIB))
    loaded = load_calibration(T4)
    assert loaded is not None
    assert loaded.context_bytes == 77 * MIB
    assert len(list(folder.rglob("*.json"))) == 1


def test_removed_calibration_is_gone() -> None:
    path = save_calibration(calibration())
    assert remove_calibration(T4) == path
    assert load_calibration(T4) is None
    with pytest.raises(MachineError, match="cannot be removed"):
        remove_calibration(T4)


@given(SOME_CASES)
def test_json_round_trip(cases: list[Case]) -> None:
    original = calibration(cases=tuple(cases), context_bytes=300 * MIB)
    assert Calibration.model_validate_json(to_json(original), strict=True) == original


VALID = to_json(calibration())
INVALID = {
    "truncated": (VALID[:200], "not a calibration of vram"),
    "empty": ("", "not a calibration of vram"),
    "not JSON": ("context_bytes: 300MiB", "not a calibration of vram"),
    "a result": (json.dumps({"schema_version": 1, "command": "breakdown"}), "product is missing"),
    "text for a size": (VALID.replace('"context_bytes": 314572800', '"context_bytes": "300MiB"'), "context_bytes: "),
    "another version": (VALID.replace('"schema_version": 1', '"schema_version": 2'), "schema_version: "),
    "an unknown GPU": (VALID.replace("Tesla T4", "Tesla T5"), "the catalogue has no Tesla T5"),
    "not text": ("\x00\xff", "not a calibration of vram"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_file_is_named_with_the_problem(kind: str, tmp_path: Path) -> None:
    text, problem = INVALID[kind]
    path = tmp_path / "imported.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_calibration(path)
    assert error.value.message.startswith(f"{path}: ")
    assert problem in error.value.message
    assert "\n" not in error.value.message
    assert error.value.hint
    saved = save_calibration(calibration())
    saved.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_calibration(T4)
    assert "--remove --gpu t4" in error.value.hint
    assert str(saved) in error.value.message


def test_file_of_another_gpu_is_refused() -> None:
    save_calibration(calibration()).write_text(to_json(calibration("l4")), encoding="utf-8")
    with pytest.raises(ConfigError, match="another GPU, NVIDIA L4") as error:
        load_calibration(T4)
    assert "--remove --gpu t4" in error.value.hint


def test_unreadable_path_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as error:
            read_calibration(path)
        assert str(path) in error.value.message


def test_unwritable_folder_is_named(folder: Path) -> None:
    folder.write_text("a file in its place")
    assert load_calibration(T4) is None
    with pytest.raises(MachineError, match="cannot be written") as error:
        save_calibration(calibration())
    assert "VRAM_CONFIG_DIR" in error.value.hint


@posix
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"VRAM_CONFIG_DIR": "/vram", "XDG_CONFIG_HOME": "/xdg"}, "/vram"),
        ({"XDG_CONFIG_HOME": "/xdg"}, "/xdg/vram"),
        ({"XDG_CONFIG_HOME": "not/absolute"}, "/home/someone/.config/vram"),
        ({"XDG_CONFIG_HOME": ""}, "/home/someone/.config/vram"),
        ({}, "/home/someone/.config/vram"),
    ],
)
def test_config_folder_follows_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VRAM_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/someone", **variables}.items():
        monkeypatch.setenv(name, value)
    assert config_folder() == Path(expected)


def test_without_a_home_folder_only_saving_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("VRAM_CONFIG_DIR", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert load_calibration(T4) is None
    with pytest.raises(MachineError, match="no home folder"):
        save_calibration(calibration())
