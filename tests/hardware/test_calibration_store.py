"""Calibrations are kept a file a card, found again, and refused by name where they are broken or of another card."""

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
from vram_cli.hardware.calibration_store import config_folder, forget, keep, kept, kept_cards, read, to_text
from vram_cli.hardware.gpus import find_gpu
from vram_cli.units import MIB

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has %APPDATA%")
T4 = find_gpu("t4")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAM_CONFIG_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("name", ["t4", "rtx-3080-12gb", "mi300x"])
def test_what_is_kept_is_found_again_for_its_card_only(name: str, folder: Path) -> None:
    made = calibration(name)
    assert kept(find_gpu(name)) is None
    assert keep(made) == folder / "calibrations" / f"{name}.json"
    assert kept(find_gpu(name)) == made
    assert kept_cards() == (find_gpu(name),)
    assert kept(find_gpu("a100-80gb")) is None
    assert [file.name for file in folder.rglob("*") if file.is_file()] == [f"{name}.json"]


def test_a_card_whose_name_is_shared_is_kept_under_its_own() -> None:
    twelve = calibration("rtx-3080-12gb", card="NVIDIA GeForce RTX 3080")
    assert keep(twelve).name == "rtx-3080-12gb.json"


def test_a_newer_one_takes_the_place_of_the_one_before(folder: Path) -> None:
    keep(calibration())
    keep(calibration(context_bytes=77 * MIB))
    found = kept(T4)
    assert found is not None
    assert found.context_bytes == 77 * MIB
    assert len(list(folder.rglob("*.json"))) == 1


def test_what_is_removed_is_gone() -> None:
    path = keep(calibration())
    assert forget(T4) == path
    assert kept(T4) is None
    with pytest.raises(MachineError, match="cannot be removed"):
        forget(T4)


@given(SOME_CASES)
def test_nothing_is_lost_on_the_way_to_a_file_and_back(cases: list[Case]) -> None:
    made = calibration(cases=tuple(cases), context_bytes=300 * MIB)
    assert Calibration.model_validate_json(to_text(made), strict=True) == made


GOOD = to_text(calibration())
BROKEN = {
    "cut": (GOOD[:200], "not a calibration of vram"),
    "empty": ("", "not a calibration of vram"),
    "no JSON": ("context_bytes: 300MiB", "not a calibration of vram"),
    "a result": (json.dumps({"schema_version": 1, "command": "breakdown"}), " is missing"),
    "text for a size": (GOOD.replace('"context_bytes": 314572800', '"context_bytes": "300MiB"'), "context_bytes: "),
    "another version": (GOOD.replace('"schema_version": 1', '"schema_version": 2'), "schema_version: "),
    "an unknown card": (GOOD.replace("Tesla T4", "Tesla T5"), "the catalogue has no Tesla T5"),
    "huge": ("[" * 300_000, "larger than any calibration"),
    "no text": ("\x00\xff", "not a calibration of vram"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_named_with_what_is_wrong(how: str, folder: Path, tmp_path: Path) -> None:
    text, problem = BROKEN[how]
    path = tmp_path / "given.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert refused.value.message.startswith(f"{path}: ")
    assert problem in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint
    own = keep(calibration())
    own.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as used:
        kept(T4)
    assert "--remove --gpu t4" in used.value.hint
    assert str(own) in used.value.message


def test_a_file_of_another_card_is_refused(folder: Path) -> None:
    keep(calibration()).write_text(to_text(calibration("l4")), encoding="utf-8")
    with pytest.raises(ConfigError, match="another card, NVIDIA L4") as refused:
        kept(T4)
    assert "--remove --gpu t4" in refused.value.hint


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as refused:
            read(path)
        assert str(path) in refused.value.message


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    folder.write_text("a file in its place")
    assert kept(T4) is None
    with pytest.raises(MachineError, match="cannot be written") as refused:
        keep(calibration())
    assert "VRAM_CONFIG_DIR" in refused.value.hint


@posix
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"VRAM_CONFIG_DIR": "/own", "XDG_CONFIG_HOME": "/xdg"}, "/own"),
        ({"XDG_CONFIG_HOME": "/xdg"}, "/xdg/vram"),
        ({"XDG_CONFIG_HOME": "not/absolute"}, "/home/someone/.config/vram"),
        ({"XDG_CONFIG_HOME": ""}, "/home/someone/.config/vram"),
        ({}, "/home/someone/.config/vram"),
    ],
)
def test_the_folder_is_the_users_for_configuration(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VRAM_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/someone", **variables}.items():
        monkeypatch.setenv(name, value)
    assert config_folder() == Path(expected)


def test_a_user_without_a_home_can_predict_and_is_told_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("VRAM_CONFIG_DIR", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert kept(T4) is None
    with pytest.raises(MachineError, match="no home folder"):
        keep(calibration())
