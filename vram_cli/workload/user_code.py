"""Code that a config names, "package.module:name": found in the config's own folder too, and blamed by its key."""

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

from vram_cli.errors import ConfigError
from vram_cli.suggest import nearest


def add_import_path(folder: Path) -> None:
    """Let modules of a folder be imported, before all others of their name. For the process that runs trials."""
    sys.path.insert(0, os.fspath(folder))


def resolve(reference: str, key: str) -> Any:
    """Import what a config's key names.

    Raises:
        ConfigError: there is no such module or name in it, or importing it raises.
    """
    module_name, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        hint = f"put it beside the config, or install it (pip install {missing.partition('.')[0]})"
        raise ConfigError(f"{key}: {reference}: {_last_line(error)}", hint) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: {reference}: importing {module_name} failed: {_last_line(error)}", _MEND) from error
    try:
        return attrgetter(path)(found)
    except AttributeError as error:
        raise ConfigError(f"{key}: {reference}: {_last_line(error)}", _other_name(found, path)) from error
    except Exception as error:  # a module that imports its parts as they are asked for
        raise ConfigError(f"{key}: {reference}: {_last_line(error)}", _MEND) from error


def _other_name(module: ModuleType, path: str) -> str:
    """Say what was probably meant, and where the module was found: it may be another one of that name."""
    meant = nearest(path, (name for name in vars(module) if not name.startswith("_")))
    file = getattr(module, "__file__", None) or "Python itself"
    return f"{f'did you mean {meant}? ' if meant else ''}{module.__name__} is from {file}"


def instantiate(reference: str, key: str, kwargs: dict[str, Any], *args: Any) -> Any:
    """Import what a key names and call it; what it raises is blamed on the key."""
    factory = resolve(reference, key)
    if not callable(factory):
        raise ConfigError(f"{key}: {reference} is a {type(factory).__name__}, and nothing to call", "name a function")
    with errors_from(f"{key} ({reference})"):
        return factory(*args, **kwargs)


@contextlib.contextmanager
def errors_from(key: str) -> Iterator[None]:
    """Note on whatever is raised which key of the config named the code; what stands nearer to it comes first."""
    try:
        yield
    except SystemExit as stop:
        hint = "return or raise an error: other trials run in the same process"
        raise ConfigError(f"{key}: the code ends the program: {_last_line(stop)}", hint) from stop
    except Exception as error:
        if not isinstance(error, ConfigError) and not config_key_of(error):
            with contextlib.suppress(AttributeError):  # an exception with __slots__ is told without the key
                error.vram_key = key  # type: ignore[attr-defined]
        raise


def config_key_of(error: BaseException) -> str:
    """Return the key that an exception is blamed on, or ""."""
    return str(getattr(error, "vram_key", ""))


def error_summary(error: BaseException) -> str:
    """Return an exception's name and first line, after the key of the config that it is blamed on."""
    words = f"{type(error).__name__}: {_first_line(str(error))}".rstrip(": ")
    return ": ".join(filter(None, (config_key_of(error), words)))


_MEND = "mend that first: nothing has been run"


def _last_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_ENFORCE = re.compile(r"^\[enforce fail at [^]]*\] \S+ == \S+\. ")
"""Where in PyTorch's own source a check failed: the traceback keeps it, a one-line message need not."""


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return _ENFORCE.sub("", line)
