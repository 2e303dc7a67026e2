"""Import the packages of a script ahead of its trials, in the process that they are forked from.

A trial then takes seconds less, and what the imports allocate is no memory of the training.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import os
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_SECONDS_TO_COMPUTE = 2
"""Time for a millisecond's work, on a busy machine."""


_PACKAGES = ("site-packages", "dist-packages")


def packages_of(file: Path) -> list[str]:
    """Return the modules outside the script's own folder that a Python file imports, as far as its text tells."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return [name for name in names if _is_found_installed(name)]


def preload(names: Iterable[str]) -> str:
    """Import modules, those that can be; return why forks are not safe after that, or ""."""
    before = set(threading.enumerate())
    arguments, path = sys.argv, list(sys.path)
    sys.argv = sys.argv[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in sys.modules:
                with contextlib.suppress(BaseException):
                    importlib.import_module(name)
    sys.argv, sys.path[:] = arguments, path
    gc.collect()
    gc.freeze()
    if threads := set(threading.enumerate()) - before:
        return f"an import starts threads ({', '.join(sorted(thread.name for thread in threads))})"
    if _uses_cuda():
        return "an import uses CUDA"
    return "" if _forks_compute() else "an import computes in parallel, and forks would wait for its threads"


def _forks_compute() -> bool:
    """Return whether a fork can compute: OpenMP waits for ever for threads that a fork does not have."""
    torch = sys.modules.get("torch")
    if torch is None or torch.get_num_threads() == 1:
        return True
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS_TO_COMPUTE)
            torch.ones(1 << 20).mul_(2).sum()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _uses_cuda() -> bool:
    """Return whether a fork of this process could not use CUDA, since something here has asked the driver."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitpid(pid, 0)[1] != 0


def _is_found_installed(name: str) -> bool:
    """Return whether a module is of Python's own library or of a package, found without importing its parents."""
    try:
        spec = find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return False
    return spec is not None and is_installed(str(spec.origin or ""))


def is_installed(file: str) -> bool:
    """Return whether a file is of Python's own library or of a package."""
    paths = sysconfig.get_paths()
    folders = tuple(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    return file.startswith(folders) or any(f"{os.sep}{name}{os.sep}" in file for name in _PACKAGES)
