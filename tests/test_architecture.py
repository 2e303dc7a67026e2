"""Imports follow the table of rooms, and `--help` does not load torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vram_cli"

# The floor, which every room stands on: each of these modules may import those before it.
FLOOR = (
    "errors",
    "units",
    "suggest",
    "shell",
    "streams",
    "files",
    "module_paths",
    "user_lines",
    "config_diff",
    "validation",
    "records",
    "progress",
)
# Room -> rooms that it may import besides the floor.
MAY_IMPORT: dict[str, set[str]] = {
    "search": set(),
    "config": set(),
    "allocator": set(),
    "hardware": set(),
    "virtual_gpu": {"hardware"},
    "workload": {"config"},
    "accounting": {"allocator", "workload"},
    "fake_tensors": {"config", "workload", "accounting", "allocator", "hardware"},
    "probe": {"config", "workload", "accounting", "allocator", "hardware", "virtual_gpu", "fake_tensors"},
    "commands": {"config", "search", "hardware", "probe"},
    "report": {"hardware", "virtual_gpu"},
    "compare": {"config", "workload", "probe", "commands", "report"},
    "cli": {"config", "hardware", "commands", "report", "compare"},
    "__init__": {"config", "search", "commands", "compare"},
    "__main__": {"cli"},
}
MAY_IMPORT_TORCH = {"workload", "accounting", "fake_tensors", "probe", "compare"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("vram_cli.")} - {"__version__"}
    floor = FLOOR[: FLOOR.index(room)] if room in FLOOR else FLOOR
    assert rooms - {room} <= MAY_IMPORT.get(room, set()).union(floor), f"{path} reaches up"
    if room not in MAY_IMPORT_TORCH:
        assert not {name for name in imported(path) if name.split(".")[0] in ("torch", "torchvision")}


def test_no_import_circle() -> None:
    """Among the imports that run as a module is loaded, not those inside its functions."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        names = [(str(node.module), alias.name) for node in nodes for alias in node.names]
        targets = {f"{module}.{each}" if f"{module}.{each}" in modules else module for module, each in names}
        graph[name] = targets & (modules.keys() - {"vram_cli"})
    assert {*TopologicalSorter(graph).static_order()} >= modules.keys() - {"vram_cli"}  # a CycleError names the circle


@pytest.mark.parametrize("code", ["import vram_cli", "import vram_cli.cli", "from vram_cli import find_batch"])
def test_importing_loads_no_torch(code: str) -> None:
    listing = f"{code}; import sys; print([name for name in sys.modules if name.split('.')[0] in ('torch', 'numpy')])"
    answer = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['vram', '--help']\n"
        "try:\n    runpy.run_module('vram_cli', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'psutil', 'torchvision', 'jinja2'}\n"
        "sys.stderr.write(str(sorted(heavy & {name.split('.')[0] for name in sys.modules})))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr == "[]"
    assert "find-batch" in answer.stdout
