"""Python interpreters: whether one is that of this process, and its arguments."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vram_cli.errors import ConfigError

_NAME = re.compile(r"python(\d+(\.\d+)?t?)?(\.exe)?", re.IGNORECASE)
_WITHOUT_EFFECT = "uBq"
"""Options about buffers, caches and greetings, which change nothing about a training."""


def is_python(program: str) -> bool:
    """Return whether a program has a name of the interpreter, such as python3.11."""
    return _NAME.fullmatch(Path(program).name) is not None


def is_this_environment(executable: str) -> bool:
    """Return whether an interpreter would run with the packages of this process."""
    return _environment(Path(executable)) == _environment(Path(sys.executable))


def _environment(executable: Path) -> tuple[Path | None, Path]:
    """Return the virtual environment of an interpreter, if any, and its file.

    A virtual environment is known by the folder of the link that was called, as Python does: the links of all of them
    lead to the same file.
    """
    folder = executable.parent.resolve()
    venv = next((each for each in (folder, folder.parent) if (each / "pyvenv.cfg").exists()), None)
    return venv, executable.resolve()


@dataclass(frozen=True)
class PythonArguments:
    """The arguments of an interpreter."""

    is_module: bool
    target: str
    arguments: tuple[str, ...]
    option: str
    """The first option that a running interpreter cannot apply any more; "" if none."""


def parse_arguments(words: Sequence[str]) -> PythonArguments:
    """Parse the arguments of an interpreter, as in Python's Modules/main.c.

    Raises:
        ConfigError: there is no script, or vram could not be attached to it.
    """
    rest, option = list(words), ""
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        letters = word[1:]
        if letters.startswith("-"):
            option, letters = option or word, ""
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "c":
                return PythonArguments(False, "", tuple(rest), option or "-c")
            if letter in "mWX":
                value, letters = letters or (rest.pop(0) if rest else ""), ""
                if letter == "m" and value:
                    return PythonArguments(True, value, tuple(rest), option)
                option = option or ("" if letter == "W" and not value.startswith("e") else f"-{letter} {value}")
            elif letter not in _WITHOUT_EFFECT:
                _check_attachable(letter)
                option = option or f"-{letter}"
    if rest in ([], ["-"]):
        raise ConfigError("the command starts Python without a script", "name one, such as: -- python train.py")
    return PythonArguments(False, rest[0], tuple(rest[1:]), option)


def _check_attachable(letter: str) -> None:
    if letter in "EIS":
        raise ConfigError(
            f"the option -{letter} of Python keeps vram from being attached to the script",
            "leave it out of the command that vram runs",
        )
