"""hatch_build.py: wheels with the library of the virtual GPU and without it, and the library of a clone.

Each test builds from a copy of the repository. A fake ziglang stands in for the package, which is 100 MB; `make dist`
runs the test of the real one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("hatch_build.py", "pyproject.toml", ".gitignore", "README.md", "LICENSE", "configs", "native", "vram_cli")
LIBRARY = "vram_cli/virtual_gpu/lib/libcuda.so.1"
PLATFORM = sysconfig.get_platform().replace("-", "_")  # such as linux_x86_64
NO_COMPILER = {"CC": "/no/such/compiler"}
FAKE_ZIG = """
import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("-o") + 1]).write_text(" ".join(sys.argv[1:]))
"""
BROKEN_ZIG = "import sys\nsys.exit('no such target')\n"

pytestmark = pytest.mark.skipif(
    PLATFORM not in ("linux_x86_64", "linux_aarch64"), reason="the virtual GPU is for x86-64 and aarch64 Linux"
)
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no cc here")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that a wheel is built from, in a repository of its own, without a compiled library."""
    copy = tmp_path / "vram"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "lib")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    (copy / ".git").mkdir()
    return copy


@pytest.fixture
def one_source(tree: Path) -> None:
    """Leave one of the sources of the larger library in the tree, so that compiling takes no time."""
    for source in (tree / "native").glob("*.c"):
        if source.name != "facts.c":
            source.unlink()


def run(tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree, with the fake packages beside it, and without settings of this process."""
    clean = {key: value for key, value in os.environ.items() if key not in ("CC", "UV", "VRAM_WHEEL", "PYTHONPATH")}
    env = clean | {"PYTHONPATH": str(tree.parent / "packages")} | environment
    return subprocess.run([sys.executable, *words], cwd=tree, env=env, capture_output=True, text=True, check=False)


def add_ziglang(tree: Path, code: str) -> None:
    package = tree.parent / "packages" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(code)


def build(tree: Path, target: str = "wheel", **environment: str) -> tuple[Path, str]:
    """Return the file that hatchling builds and what it prints."""
    output = tree.parent / "dist"
    done = run(tree, "-m", "hatchling", "build", "--target", target, "--directory", str(output), **environment)
    assert done.returncode == 0, done.stderr
    (file,) = output.iterdir()
    return file, done.stdout + done.stderr


def names_in(wheel: Path) -> list[str]:
    with ZipFile(wheel) as files:
        return sorted(files.namelist())


def library_in(wheel: Path) -> bytes:
    """Return the library, or nothing; and test that the wheel says of itself whether it has one."""
    with ZipFile(wheel) as files:
        (metadata,) = (files.read(name).decode() for name in files.namelist() if name.endswith(".dist-info/WHEEL"))
        library = files.read(LIBRARY) if LIBRARY in files.namelist() else b""
    assert f"Root-Is-Purelib: {'false' if library else 'true'}" in metadata
    return library


@needs_cc
def test_a_wheel_has_the_library_of_this_compiler(tree: Path) -> None:
    (tree / LIBRARY).parent.mkdir(parents=True, exist_ok=True)
    (tree / LIBRARY).write_text("that of another compiler")
    wheel, _ = build(tree)
    assert wheel.name.endswith(f"-py3-none-{PLATFORM}.whl")
    library = library_in(wheel)
    assert library.startswith(b"\x7fELF")
    assert b"libcuda.so.1\0" in library
    assert (tree / LIBRARY).read_text() == "that of another compiler"


@pytest.mark.parametrize("broken", [False, True], ids=["no compiler", "compiler that fails"])
def test_without_a_compiler_a_wheel_is_built_without_the_library(tree: Path, broken: bool) -> None:
    if broken:
        add_ziglang(tree, BROKEN_ZIG)
    elif importlib.util.find_spec("ziglang"):
        pytest.skip("ziglang is installed")
    wheel, output = build(tree, **NO_COMPILER)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert library_in(wheel) == b""
    assert "vram is built without its virtual GPU" in output
    assert ("no such target" if broken else "no C compiler") in output


def test_ziglang_compiles_where_there_is_no_cc(tree: Path) -> None:
    add_ziglang(tree, FAKE_ZIG)
    wheel, _ = build(tree, **NO_COMPILER)
    assert wheel.name.endswith(f"-py3-none-{PLATFORM}.whl")
    assert library_in(wheel).startswith(b"cc -target ")


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_wheels_of_a_release(tree: Path, architecture: str) -> None:
    add_ziglang(tree, FAKE_ZIG)
    wheel, _ = build(tree, VRAM_WHEEL=architecture)
    tag = f"manylinux_2_17_{architecture}.manylinux2014_{architecture}"
    assert wheel.name.endswith(f"-py3-none-{tag}.whl")
    words = library_in(wheel).decode().split()
    assert words[:3] == ["cc", "-target", f"{architecture}-linux-gnu.2.17"]
    assert {Path(word).name for word in words if word.endswith(".c")} == {
        path.name for path in (ROOT / "native").glob("*.c")
    }


def test_a_release_has_a_wheel_for_other_systems(tree: Path) -> None:
    wheel, output = build(tree, VRAM_WHEEL="any")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert library_in(wheel) == b""
    assert "virtual GPU" not in output


def test_a_release_is_never_built_without_the_library(tree: Path) -> None:
    add_ziglang(tree, BROKEN_ZIG)
    assert "no such target" in run(tree, "-m", "hatchling", "build", VRAM_WHEEL="aarch64").stderr
    assert "expected x86_64, aarch64 or any" in run(tree, "-m", "hatchling", "build", VRAM_WHEEL="x86-64").stderr


@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed; `make dist` installs it")
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_library_of_a_release_runs_on_glibc_2_17(tree: Path, architecture: str) -> None:
    library = library_in(build(tree, VRAM_WHEEL=architecture)[0])
    machine = {"x86_64": 62, "aarch64": 183}[architecture]
    assert library[:4] == b"\x7fELF"
    assert int.from_bytes(library[18:20], "little") == machine
    versions = [tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_([\d.]+)\0", library)]
    assert versions
    assert max(versions) <= (2, 17)


def requirements(tree: Path, hook: str = "wheel", **environment: str) -> str:
    done = run(tree, "-c", f"from hatchling.build import *; print(get_requires_for_build_{hook}())", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_cc
def test_ziglang_is_not_required_where_cc_compiles(tree: Path) -> None:
    assert requirements(tree) == "[]"


def test_ziglang_is_required_if_it_is_needed_and_can_be_had(tree: Path) -> None:
    installer = tree.parent / "uv"
    for exit_code, required in ((0, True), (1, False)):
        installer.write_text(f'#!/bin/sh\necho "$@" > {tree.parent}/words\nexit {exit_code}\n')
        installer.chmod(0o755)
        for hook in ("wheel", "editable"):
            assert ("ziglang" in requirements(tree, hook, UV=str(installer), **NO_COMPILER)) is required
    assert (tree.parent / "words").read_text() == "pip install --dry-run --no-deps ziglang\n"
    assert requirements(tree, VRAM_WHEEL="aarch64") == "['ziglang']"
    assert requirements(tree, VRAM_WHEEL="any", **NO_COMPILER) == "[]"


@needs_cc
@pytest.mark.usefixtures("one_source")
def test_an_editable_install_compiles_in_the_tree(tree: Path) -> None:
    done = run(tree, "-c", "from hatchling.build import build_editable; print(build_editable('..'))")
    assert done.returncode == 0, done.stderr
    wheel = tree.parent / done.stdout.split()[-1]
    assert wheel.name.endswith("-py3-none-any.whl")
    assert library_in(wheel) == b""
    assert (tree / LIBRARY).read_bytes().startswith(b"\x7fELF")


@needs_cc
@pytest.mark.usefixtures("one_source")
def test_a_clone_compiles_what_changed(tree: Path) -> None:
    library = tree / LIBRARY
    (source,) = (tree / "native").glob("facts.c")
    assert run(tree, "hatch_build.py").returncode == 0
    first = library.stat()
    assert run(tree, "hatch_build.py").returncode == 0
    assert library.stat().st_ino == first.st_ino, "nothing changed"
    source.write_text(source.read_text() + "\nint broken = ;\n")
    os.utime(source, (first.st_mtime + 1, first.st_mtime + 1))
    done = run(tree, "hatch_build.py")
    assert done.returncode == 1
    assert "int broken = ;" in done.stderr
    assert library.stat().st_ino == first.st_ino, "the old library stays"
    source.write_text(source.read_text().replace("broken = ;", "whole = 1;"))
    os.utime(source, (first.st_mtime + 1, first.st_mtime + 1))
    assert run(tree, "hatch_build.py").returncode == 0
    assert library.stat().st_ino != first.st_ino


@needs_cc
@pytest.mark.usefixtures("one_source")
def test_an_sdist_builds_the_same_wheel(tree: Path) -> None:
    assert run(tree, "hatch_build.py").returncode == 0
    unpacked = tree.parent / "unpacked"
    sdist, _ = build(tree, "sdist")
    shutil.unpack_archive(sdist, unpacked, filter="data")
    (from_sdist,) = unpacked.iterdir()
    assert not (from_sdist / LIBRARY).exists()
    sdist.unlink()
    names, names_from_sdist = (names_in(build(source)[0]) for source in (tree, from_sdist))
    assert LIBRARY in names
    assert names_from_sdist == names
