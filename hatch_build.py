"""Compile `native/` to the libraries of the virtual GPU: for every wheel, and in a clone with `make native`.

Without a C compiler a build succeeds and has no libraries: vram then predicts with fake tensors.
`VRAM_WHEEL=x86_64`, `aarch64` or `any` builds a wheel of a release, which has the libraries or none, or fails.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

ROOT = Path(__file__).parent
FOLDER = "vram_cli/virtual_gpu/lib"
# Programs look libraries up by these names, and find those that are loaded already.
LIBRARIES = {"libcuda.so.1": "native/*.c", "libnvidia-ml.so.1": "native/nvml/*.c"}
ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = ("-shared", "-fPIC", "-O1", "-g0", "-std=gnu11", "-fvisibility=hidden")
NEEDED = ("-ldl", "-lpthread")


class BuildError(Exception):
    """The library cannot be compiled; the message gives the reason."""


def architecture_here() -> str:
    """Return the architecture of this Linux, or nothing on a system that has no virtual GPU."""
    system, _, architecture = sysconfig.get_platform().partition("-")
    return architecture if system == "linux" and architecture in ARCHITECTURES else ""


def system_compiler() -> list[str]:
    """Return the command of `$CC` or `cc`, or nothing if it does not run or lacks the headers of the C library."""
    command = shlex.split(os.environ.get("CC") or "cc")
    check = [*command, "-fsyntax-only", "-xc", "-"]
    try:
        done = subprocess.run(check, input="#include <dlfcn.h>", text=True, capture_output=True, check=False)
    except OSError:
        return []
    return [] if done.returncode else command


def ziglang(architecture: str) -> list[str]:
    """Return the command of the C compiler that is a package, for the oldest glibc that manylinux2014 allows."""
    if not importlib.util.find_spec("ziglang"):
        return []
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu.2.17"]


def compiler_here() -> list[str]:
    """Return the command of the system's compiler, else of ziglang's."""
    return system_compiler() or ziglang(architecture_here())


def can_install_ziglang() -> bool:
    """Return whether pip, or the uv that runs this build, finds ziglang: if not, requiring it would end the install."""
    installer = [uv, "pip"] if (uv := os.environ.get("UV")) else [sys.executable, "-I", "-m", "pip"]
    command = [*installer, "install", "--dry-run", "--no-deps", "ziglang"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compile_libraries(compiler: list[str], folder: Path) -> None:
    """Compile the libraries into a folder; each is replaced at once, since a process may have the old one open."""
    if not compiler:
        raise BuildError("no C compiler: install gcc or clang, or `pip install ziglang`")
    folder.mkdir(parents=True, exist_ok=True)
    for name, pattern in LIBRARIES.items():
        partial = folder / f"{name}.partial"
        sources = map(str, sorted(ROOT.glob(pattern)))
        command = [*compiler, *FLAGS, f"-Wl,-soname,{name}", *sources, "-o", str(partial), *NEEDED]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{shlex.join(command)} failed:\n{done.stderr}")
        sys.stderr.write(done.stderr)  # warnings
        partial.replace(folder / name)


def update_libraries() -> None:
    """Compile the libraries of this source tree if a file that they are made from is newer."""
    outputs = [ROOT / FOLDER / name for name in LIBRARIES]
    newest = max(path.stat().st_mtime for path in (Path(__file__), *(ROOT / "native").rglob("*.[ch]")))
    is_new = all(output.exists() and output.stat().st_mtime > newest for output in outputs)
    if architecture_here() and not is_new:
        compile_libraries(compiler_here(), ROOT / FOLDER)


class NativeLibrary(BuildHookInterface[WheelBuilderConfig]):
    """Add the libraries to a wheel, or to the source tree of an editable install."""

    def dependencies(self) -> list[str]:
        """Return ziglang, which is 100 MB, only if this build needs it."""
        if release := os.environ.get("VRAM_WHEEL"):
            return ["ziglang"] if release in ARCHITECTURES else []
        needed = architecture_here() and not system_compiler()
        return ["ziglang"] if needed and can_install_ziglang() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries before hatchling collects the files of the wheel."""
        self._folder = TemporaryDirectory()  # the libraries in the tree may be those of another compiler
        release, here = os.environ.get("VRAM_WHEEL"), architecture_here()
        if release in ARCHITECTURES:
            self._add_libraries(ziglang(release), f"manylinux_2_17_{release}.manylinux2014_{release}", build_data)
        elif release not in (None, "any"):
            raise BuildError(f"VRAM_WHEEL is {release!r}: expected {', '.join(ARCHITECTURES)} or any")
        elif here and not release:
            try:
                if version == "editable":
                    update_libraries()
                else:
                    self._add_libraries(compiler_here(), f"linux_{here}", build_data)
            except (BuildError, OSError) as error:
                self.app.display_warning(f"vram is built without its virtual GPU; fake tensors replace it: {error}")

    def _add_libraries(self, compiler: list[str], platform: str, build_data: dict[str, Any]) -> None:
        compile_libraries(compiler, Path(self._folder.name))
        for name in LIBRARIES:
            build_data["force_include"][str(Path(self._folder.name, name))] = f"{FOLDER}/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, *_: object) -> None:
        """Remove the compiled libraries, which the wheel now holds."""
        self._folder.cleanup()


if __name__ == "__main__":
    try:
        update_libraries()
    except BuildError as error:
        sys.exit(str(error))
