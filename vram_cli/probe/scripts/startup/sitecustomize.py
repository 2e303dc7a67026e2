"""Attach vram to the Python that trains, if another program starts it: this folder is in front of PYTHONPATH.

Python imports this file as it starts, in any environment, so it needs only the standard library. It waits for torch to
be imported, because launchers and tools are Python, too. Then vram is imported from its own place, not by way of
`sys.path`, on which its neighbours would become importable for the script.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would slow every Python down
_SOCKET = "VRAM_SOCKET"
_HINT = "install vram in the environment in which the script trains: {} -m pip install vram-cli"


class _WaitForTorch(MetaPathFinder):
    """Calls `_attach` at the end of `import torch`. To look for torch, as many packages do, is not to import it."""

    _is_searching = False

    def find_spec(self, name: str, *_: Any, **__: Any) -> ModuleSpec | None:
        if name != "torch" or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_searching = False
        if spec is not None and spec.loader is not None:
            self._extend(spec.loader)
        return spec

    def _extend(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _attach()

        loader.exec_module = exec_module


def _attach() -> None:
    try:
        _import_vram()
        from vram_cli.probe.scripts.attach import attach

        attach()
    except Exception as error:  # noqa: BLE001 - vram's error must not look like one of the script
        reason = f"vram cannot be imported by {sys.executable}: {type(error).__name__}: {error}"
        _refuse(reason, _HINT.format(sys.executable))


def _import_vram() -> None:
    package = os.path.normpath(os.path.join(_FOLDER, "..", "..", ".."))  # noqa: PTH118
    spec = importlib.util.spec_from_file_location("vram_cli", os.path.join(package, "__init__.py"))  # noqa: PTH118
    if "vram_cli" not in sys.modules and spec is not None and spec.loader is not None:
        sys.modules["vram_cli"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["vram_cli"])


def _refuse(reason: str, hint: str) -> None:
    """Send the reason to the worker: it ends this process."""
    import json
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[_SOCKET])
        connection.sendall(json.dumps({"refused": reason, "hint": hint}).encode() + b"\n")


def _run_the_next() -> None:
    """Run the `sitecustomize` that this one hides. `import` then returns that one, so that it finds itself."""
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != _FOLDER]  # noqa: PTH100
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if _SOCKET in os.environ:
    sys.meta_path.insert(0, _WaitForTorch())
if __name__ == "sitecustomize":
    _run_the_next()
