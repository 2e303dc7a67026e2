"""Run a Python file or module in this process as `python` would."""

from __future__ import annotations

import os
import runpy
import sys
import zipfile
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.command import Command


def run(command: Command) -> None:
    """Run the file or module of a command to its end; SystemExit and the script's exceptions pass through.

    It stays `__main__`, so that processes which the script starts by multiprocessing can import it.

    Raises:
        ConfigError: it is no Python, or no module of that name can be found.
    """
    if command.kind == "module":
        _run_module(command.target, command.arguments)
    elif Path(command.target).is_dir() or zipfile.is_zipfile(command.target):
        _run_folder(command.target, command.arguments)
    else:
        _run_file(command.target, command.arguments)


def _run_module(name: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-m", *arguments]
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as text
    try:
        is_missing = find_spec(name) is None
    except (ModuleNotFoundError, ValueError):  # its package is missing
        is_missing = True
    if is_missing:
        raise ConfigError(
            f"the command's module {name!r} cannot be found",
            "run vram in the folder in which you start your training, and with its Python",
        )
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_folder(path: str, arguments: tuple[str, ...]) -> None:
    """Run `__main__.py` of a folder or a zip file."""
    if PathFinder.find_spec("__main__", [path]) is None:
        raise ConfigError(f"the command's script {path!r} has no __main__.py", "name the file that starts the training")
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def _run_file(path: str, arguments: tuple[str, ...]) -> None:
    code = _compile(path)
    file = os.path.abspath(path)  # noqa: PTH100 - links are kept, as in Python
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = file, SourceFileLoader("__main__", file)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102 - the user's own script


def _compile(path: str) -> CodeType:
    try:
        source = Path(path).read_bytes()
        return compile(source, path, "exec", dont_inherit=True)
    except OSError as error:
        raise ConfigError(f"the command's script {path!r} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"the command's script {path!r} is no Python {sys.version_info.major}.{sys.version_info.minor}: {error}",
            f"`python {path}` must start",
        ) from None
