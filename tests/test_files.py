"""Files are written atomically, and replaced only with `force`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError, MachineError
from vram_cli.files import check_writable, write_file


def test_existing_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="already exists") as caught:
        check_writable(path)
    assert "--force" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="already exists"):
        write_file("new", path)
    assert path.read_text() == "precious"
    check_writable(path, force=True)
    assert path.read_text() == "precious"
    write_file("new", path, force=True)
    assert path.read_text() == "new"


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("precious")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MachineError, match="cannot be written: No space left on device"):
        write_file("new", path, force=True)
    assert path.read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to("real.json")
    write_file("new", link, force=True)
    assert link.is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder"),
        ("missing/run.json", "does not exist"),
        ("file/run.json", "does not exist"),
    ],
)
def test_unwritable_paths(name: str, message: str, force: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=message) as caught:
        check_writable(tmp_path / name, force=force)
    assert caught.value.hint
    with pytest.raises(ConfigError, match=message):
        write_file("new", tmp_path / name, force=force)


@pytest.mark.skipif(os.name == "nt", reason="these paths are of Unix")
@pytest.mark.parametrize(
    ("path", "message"),
    [("/dev/null", "is not a regular file"), ("/proc/self/run.json", "cannot be written")],
)
def test_unwritable_paths_of_the_system(path: str, message: str) -> None:
    if not Path(path).parent.is_dir():
        pytest.skip(f"no {Path(path).parent} here")
    with pytest.raises(ConfigError, match=message):
        check_writable(Path(path), force=True)
