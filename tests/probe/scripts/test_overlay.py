"""The overlay: a script sees what it writes into its working folder, and nobody else does."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.probe.scripts.children import checksums, in_child
from vram_cli.probe.scripts.overlay import OverlayError, enter, obstacle

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has overlays"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
NOBODY = 65534


@pytest.fixture(params=["this user", "a normal user"])
def user(request: pytest.FixtureRequest) -> int | None:
    if request.param == "this user":
        return None
    if os.geteuid() != 0:
        pytest.skip("this user is one")
    return NOBODY


@pytest.fixture
def folder(user: int | None) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="vram-overlay-")) / "my project"  # those of pytest are readable only by root
    place.parent.chmod(0o755)
    for name in ("old.txt", "gone.txt", "renamed.txt", "read only.txt", "runs/1/log", "data/samples"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"the user's {name}")
    (place / "read only.txt").chmod(0o444)
    for path in [place, *place.rglob("*")]:
        if user is not None:
            os.chown(path, user, user)
    if reason := in_child(lambda: obstacle(place), user):
        pytest.skip(f"this system has no overlay: {reason}")
    yield place
    shutil.rmtree(place.parent)


def script() -> None:
    """Do what scripts do, by relative and by absolute paths."""
    Path("new.txt").write_text("new")
    with Path("old.txt").open("a") as file:
        file.write("more")
    Path("gone.txt").unlink()
    Path("renamed.txt").rename("by another name.txt")
    shutil.rmtree("runs")
    Path("runs/2").mkdir(parents=True)
    Path("runs/2/log").write_text("log")
    (Path.cwd() / "data" / "cache").write_bytes(b"0" * 100_000)
    assert Path("old.txt").read_text() == "the user's old.txtmore"
    assert not Path("gone.txt").exists()
    assert [path.name for path in Path("runs").iterdir()] == ["2"]
    assert os.system("touch 'by a program.txt'") == 0


def test_nothing_that_a_script_writes_reaches_the_folder(folder: Path, user: int | None) -> None:
    def run() -> str:
        os.chdir(folder)
        overlay = enter(folder)
        script()
        return "\n".join((*overlay.changes(), str(overlay.size() >= 100_000)))

    before = checksums(folder)
    assert in_child(run, user).splitlines() == [
        "changed old.txt",
        "made by a program.txt",
        "made by another name.txt",
        "made data/cache",
        "made new.txt",
        "removed gone.txt",
        "removed renamed.txt",
        "replaced runs/",
        "True",
    ]
    assert checksums(folder) == before


def test_a_script_has_the_powers_of_its_user(folder: Path, user: int | None) -> None:
    def may_write() -> bool:
        try:
            (folder / "read only.txt").write_text("x")
        except PermissionError:
            return False
        return True

    def run() -> object:
        enter(folder)
        return may_write(), os.geteuid(), os.getegid(), Path("/dev/null").write_text("x")

    is_root = folder.stat().st_uid == 0
    assert in_child(run, user) == str((is_root, folder.stat().st_uid, folder.stat().st_gid, 1))


def test_a_folder_by_way_of_a_link_and_a_place_in_it(folder: Path, user: int | None) -> None:
    def run() -> object:
        os.chdir(link / "data")
        overlay = enter(link)
        Path("here").touch()
        return Path.cwd() == folder / "data", overlay.changes(), (link / "data" / "here").exists()

    link = folder.parent / "link"
    link.symlink_to(folder)
    assert in_child(run, user) == "(True, ('made data/here',), True)"
    assert not (folder / "data" / "here").exists()


def test_an_overlay_in_an_overlay(folder: Path, user: int | None) -> None:
    """Linux stacks two; more are refused by name."""

    def run() -> object:
        os.chdir(folder)
        enter(folder)
        Path("first").touch()
        if reason := obstacle(folder):  # the test itself runs in one
            return reason
        changes = enter(folder)
        Path("second").touch()
        return changes.changes(), obstacle(folder)

    refused = "overlay cannot be mounted: Invalid argument"
    assert in_child(run, user) in (refused, f"(('made second',), {refused!r})")


def test_folders_without_one(tmp_path: Path) -> None:
    assert obstacle("/") == "the folder is /"
    assert obstacle("/dev").startswith("another file system is mounted at /dev/")
    with pytest.raises(OverlayError, match="the folder is /"):
        enter("/")


def test_files_of_other_groups_are_an_obstacle_for_normal_users(folder: Path, user: int | None) -> None:
    if user is not None:
        os.chown(folder / "data", user, 0)
        assert in_child(lambda: obstacle(folder), user) == f"{folder / 'data'} belongs to another user or group"
