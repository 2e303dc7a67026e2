"""A script runs as `python` would run it: each test compares with what Python itself does."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.command import parse
from vram_cli.probe.scripts.run_python import run

RUN = """
import os, sys
sys.path = [folder for folder in sys.path if folder]
from vram_cli.probe.scripts.command import parse
from vram_cli.probe.scripts.run_python import run
run(parse([sys.executable, *sys.argv[1:]]))
"""

FACTS = """
import os, pickle, sys
import {neighbour}
class Sample: pass
print(__name__, __package__, __spec__ and __spec__.name, sys.argv)
print(os.path.abspath(sys.path[0]), os.path.abspath(__file__))
print(sys.modules["__main__"].__dict__ is globals(), type(pickle.loads(pickle.dumps(Sample()))) is Sample)
print(__builtins__ is not None, __doc__, Sample.__module__)
sys.exit(3)
"""

SPAWN = """
import multiprocessing, sys
def double(n): return 2 * n, __name__, sys.argv
if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.map(double, [4]))
"""


def output(code: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *code], cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(FACTS.format(neighbour="neighbour"))
    (tmp_path / "scripts" / "neighbour.py").touch()
    (tmp_path / "link.py").symlink_to("scripts/train.py")
    (tmp_path / "package").mkdir()
    for name in ("__init__", "train", "__main__"):
        (tmp_path / "package" / f"{name}.py").write_text(
            FACTS.format(neighbour="package") if name != "__init__" else ""
        )
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(FACTS.format(neighbour="os"))
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.write(tmp_path / "app" / "__main__.py", "__main__.py")
    (tmp_path / "spawn.py").write_text(SPAWN)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "scripts/train.py --n 8",
        "link.py",
        "-m package.train --n 8",
        "-m package",
        "app --n 8",
        "app.pyz",
        "spawn.py",
        "-m spawn",
    ],
)
def test_it_sees_the_same(words: str, folder: Path) -> None:
    assert output(["-c", RUN, *words.split()], folder) == output(words.split(), folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("broken.py", r"'broken.py' is no Python 3\.\d+: invalid syntax \(broken.py, line 1\)"),
        ("data.bin", r"'data.bin' is no Python 3\.\d+: source code string cannot contain null bytes"),
        ("empty", "'empty' has no __main__.py"),
        ("-m nowhere", "module 'nowhere' cannot be found"),
        ("-m nowhere.train", "module 'nowhere.train' cannot be found"),
    ],
)
def test_no_python(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("echo hello world\n")
    (tmp_path / "data.bin").write_bytes(b"\0\1")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ConfigError, match=message):
        run(parse([sys.executable, *words.split()]))
