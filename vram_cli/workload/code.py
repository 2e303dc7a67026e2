"""Code that a config names, "package.module:name": found in the config's own folder too, and blamed by its key."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from vram_cli.errors import ConfigError


def look_in(folder: Path) -> None:
    """Let modules of a folder be imported, before all others of their name. For the process that runs trials."""
    sys.path.insert(0, os.fspath(folder))


def resolve(target: str, key: str) -> Any:
    """Import what a config's key names.

    Raises:
        ConfigError: there is no such module or name in it, or importing it raises.
    """
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        hint = f"put it beside the config, or install it (pip install {missing.partition('.')[0]})"
        raise ConfigError(f"{key}: {target}: {_last_line(error)}", hint) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: {target}: importing {module_name} failed: {_last_line(error)}", _MEND) from error
    try:
        return attrgetter(path)(found)
    except AttributeError as error:
        raise ConfigError(f"{key}: {target}: {_last_line(error)}", "check the name after the colon") from error


def called(target: str, key: str, kwargs: dict[str, Any]) -> Any:
    """Import what a key names and call it; what it raises is blamed on the key."""
    factory = resolve(target, key)
    if not callable(factory):
        raise ConfigError(f"{key}: {target} is a {type(factory).__name__}, and nothing to call", "name a function")
    with blamed_on(f"{key} ({target})"):
        return factory(**kwargs)


@contextlib.contextmanager
def blamed_on(key: str) -> Iterator[None]:
    """Note on whatever is raised which key of the config named the code; what stands nearer to it comes first."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, ConfigError) and not blame(error):
            with contextlib.suppress(AttributeError):  # an exception with __slots__ is told without the key
                error.vram_key = key  # type: ignore[attr-defined]
        raise


def blame(error: BaseException) -> str:
    """Return the key that an exception is blamed on, or ""."""
    return str(getattr(error, "vram_key", ""))


_MEND = "mend that first: nothing has been run"


def _last_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
