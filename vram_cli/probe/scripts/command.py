"""Parse a command: a Python file or module of this environment, which a fork can run, or another program."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.interpreter import is_python, is_this_environment, parse_arguments

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_")
"""Variables that Python, the system's loader and the libraries under PyTorch read once."""

_LAUNCHERS = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "deepspeed.launcher.runner",
    "lightning.fabric",
    "lightning.fabric.cli",
)
"""Modules that start the script in another process."""


@dataclass(frozen=True)
class Command:
    """A command that starts a training."""

    environment: dict[str, str]
    """The variables that the command sets."""
    kind: Literal["file", "module", "other"]
    """Whether a fork of this process can run it, as a Python file or module."""
    target: str
    """The file, module or program."""
    arguments: tuple[str, ...]
    words: tuple[str, ...]
    """The program and its arguments, to start it as a new process."""
    reason: str = ""
    """The reason for the kind "other", such as "bash is not Python"."""


def parse(words: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Command:
    """Parse the words of a command that already has its batch size.

    Args:
        words: the command.
        environment: the environment in which it starts; None for that of this process.
        folder: the working folder; None for that of this process.

    Raises:
        ConfigError: it names no program or script, or one that does not exist.
    """
    before = os.environ if environment is None else environment
    assigned, rest = _split_assignments(words)
    if not rest:
        raise ConfigError(
            f"the command {' '.join(words)!r} starts no program", "write it as in a shell, such as: -- python train.py"
        )
    program, *arguments = rest
    if program.endswith(".py") and (script := _script(program, assigned, before, folder)):
        command = Command(assigned, "file", script, tuple(arguments), (sys.executable, script, *arguments))
    else:
        command = _program(program, arguments, assigned, before)
    if command.kind == "file":
        _check_exists(command.target, folder)
    changed = [name for name, value in assigned.items() if before.get(name) != value]
    late = next((name for name in changed if name.startswith(_READ_AT_START)), "")
    return _as_other(command, f"{late} is read as a process starts") if late and command.kind != "other" else command


def _split_assignments(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split the variables from the program, with or without `env`; options of `env` are left to it."""
    assigned, rest = {}, list(words)
    while rest:
        if _ASSIGNMENT.match(rest[0]):
            name, _, assigned_value = rest.pop(0).partition("=")
            assigned[name] = assigned_value
        elif Path(rest[0]).name == "env" and not (len(rest) > 1 and rest[1].startswith("-")):
            rest.pop(0)
        else:
            break
    return assigned, rest


def _script(program: str, assigned: Mapping[str, str], before: Mapping[str, str], folder: Path | None) -> str:
    """Return the path of a Python file that is the program itself; "" if its first line names another interpreter."""
    path = Path(folder or "", program)
    found = program if path.exists() or os.sep in program else _which(program, assigned, before) or program
    first = _first_line(Path(folder or "", found))
    return "" if first.startswith(b"#!") and b"python" not in first else found


def _first_line(file: Path) -> bytes:
    if not file.is_file():
        return b""
    with file.open("rb") as content:
        return content.readline(200)


def _program(program: str, arguments: Sequence[str], assigned: dict[str, str], before: Mapping[str, str]) -> Command:
    executable = _which(program, assigned, before)
    if executable is None:
        raise ConfigError(
            f"the command's program {program!r} does not exist",
            "write a program of PATH or a path to it, such as: -- python train.py",
        )
    words = (program, *arguments)
    other = Command(assigned, "other", program, tuple(arguments), words)
    if not is_python(program):
        return _as_other(other, f"{Path(program).name} is not Python")
    parsed = parse_arguments(arguments)
    if not is_this_environment(executable):
        return _as_other(other, f"{executable} is the Python of another environment")
    if parsed.option:
        return _as_other(other, f"a fork cannot apply the option {parsed.option}")
    if parsed.is_module and parsed.target in _LAUNCHERS:
        return _as_other(other, f"{parsed.target} starts the script in another process")
    kind: Literal["module", "file"] = "module" if parsed.is_module else "file"
    return Command(assigned, kind, parsed.target, parsed.arguments, words)


def _which(program: str, assigned: Mapping[str, str], before: Mapping[str, str]) -> str | None:
    """Look a program up as the child's environment would."""
    return shutil.which(program, path=assigned.get("PATH", before.get("PATH", os.defpath)))


def _check_exists(script: str, folder: Path | None) -> None:
    if not Path(folder or "", script).exists():
        place = Path(folder or "").absolute()
        raise ConfigError(
            f"the command's script {script!r} does not exist in {place}",
            "run vram in the folder in which you start your training",
        )


def _as_other(command: Command, reason: str) -> Command:
    program, *arguments = command.words
    return Command(command.environment, "other", program, tuple(arguments), command.words, reason)
