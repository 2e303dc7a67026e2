"""Code that a config names, "package.module:name": importing it, calling it, and attributing its errors to its key."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from vram_cli.errors import ConfigError, MachineError
from vram_cli.suggest import nearest
from vram_cli.workload.error_text import shortened, text_of

_FIX = "fix that first: nothing has run yet"


def add_import_path(folder: Path) -> None:
    """Let modules of a folder be imported, before all others of their name. For the process that runs trials."""
    sys.path.insert(0, os.fspath(folder))


def resolve(reference: str, key: str) -> Any:
    """Import the object that a key of the config names.

    Raises:
        ConfigError: the module or the name in it does not exist, or importing it raises.
    """
    module_name, _, path = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        hint = f"put it beside the config, or install it (pip install {missing.partition('.')[0]})"
        raise ConfigError(f"{key}: {reference}: {_one_line(error)}", hint) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: {reference}: importing {module_name} failed: {_one_line(error)}", _FIX) from error
    try:
        return attrgetter(path)(module)
    except AttributeError as error:
        raise ConfigError(f"{key}: {reference}: {_one_line(error)}", _suggest_name(module, path)) from error
    except Exception as error:  # a module that imports its parts lazily
        raise ConfigError(f"{key}: {reference}: {_one_line(error)}", _FIX) from error


def import_torchvision(part: str) -> Any:
    """Import torchvision.models or another part only when it is needed, since that takes seconds.

    Raises:
        MachineError: the import fails, for example because torchvision was built for another PyTorch.
    """
    try:
        return importlib.import_module(f"torchvision.{part}")
    except (ImportError, OSError, RuntimeError) as error:
        import torch

        raise MachineError(
            f"torchvision does not load beside PyTorch {torch.__version__}: {_one_line(error)}",
            "install torch and torchvision together, from one index: they are built for each other",
        ) from error


def _suggest_name(module: ModuleType, path: str) -> str:
    """Return the nearest name in a module, and the module's file: it may be another one of that name."""
    match = nearest(path, (name for name in vars(module) if not name.startswith("_")))
    file = getattr(module, "__file__", None) or "Python itself"
    return f"{f'did you mean {match}? ' if match else ''}{module.__name__} is from {file}"


def instantiate(reference: str, key: str, kwargs: dict[str, Any], *args: Any) -> Any:
    """Import the object that a key names and call it; attribute its errors to the key."""
    factory = resolve(reference, key)
    if not callable(factory):
        raise ConfigError(f"{key}: {reference} is a {type(factory).__name__}, not callable", "name a class or function")
    with errors_from(f"{key} ({reference})"):
        return factory(*args, **kwargs)


@contextlib.contextmanager
def errors_from(key: str) -> Iterator[None]:
    """Attribute exceptions to the key of the config that names the code; the innermost key wins."""
    try:
        yield
    except SystemExit as stop:
        hint = "return or raise an error: other trials run in the same process"
        raise ConfigError(f"{key}: the code exits the process: {_one_line(stop)}", hint) from stop
    except Exception as error:
        if not isinstance(error, ConfigError) and not config_key_of(error):
            with contextlib.suppress(AttributeError):  # an exception with __slots__ is reported without the key
                error.vram_key = key  # type: ignore[attr-defined]
        raise


def config_key_of(error: BaseException) -> str:
    """Return the key that an exception is attributed to, or ""."""
    return str(getattr(error, "vram_key", ""))


def error_summary(error: BaseException) -> str:
    """Return the name and the first line of an exception, after the key of the config that it is attributed to."""
    return ": ".join(filter(None, (config_key_of(error), name_and_text(error))))


def name_and_text(error: BaseException) -> str:
    """Return the name and the first line of an exception."""
    return f"{type(error).__name__}: {_first_line(text_of(error))}".rstrip(": ")


def _one_line(error: BaseException) -> str:
    text = shortened(" ".join(text_of(error).split()), _MAX_LINE)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_MAX_LINE = 1000
_ENFORCE = re.compile(r"^\[enforce fail at [^]]*\] \S+ == \S+\. ")
"""The line of PyTorch's own source at which a check failed; the traceback keeps it."""


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return shortened(_ENFORCE.sub("", line), _MAX_LINE)
