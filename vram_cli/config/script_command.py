"""The command of a script: its words from the command line, and whether its program exists."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from vram_cli.config.overrides import COMMAND_LINE
from vram_cli.config.schema import Config
from vram_cli.config.yaml_document import Document
from vram_cli.errors import ConfigError

_KEY = "script.command"


def set_command(document: Document, words: Sequence[str]) -> None:
    """Set the words of a command line as the command of a document."""
    script = document.values.get("script")
    document.values["script"] = {**(script if isinstance(script, dict) else {}), "command": list(words)}
    document.places["script", "command"] = COMMAND_LINE


def check_program(config: Config) -> None:
    """Check that the program which a script's command starts exists.

    Raises:
        ConfigError: it does not; the message names it.
    """
    if config.script is None:
        return
    program = config.script.command[0]
    # A path is one from the config's folder, in which the script runs.
    path = str(config.source.folder / program) if Path(program).name != program else program
    if not program or shutil.which(path) is None:
        message = config.source.located(f"{_KEY}: there is no program {program!r}")
        raise ConfigError(message, _way_out(program, config.source.folder))


def _way_out(program: str, folder: Path) -> str:
    if program.endswith(".py") and (folder / program).is_file():
        return f"write python {program}"
    if len(program.split()) > 1:
        return "write its words without quotes around them all, such as -- python train.py"
    if program.endswith((".yaml", ".yml")):
        return f"a config is named with --config {program}"
    return "check its spelling, or activate the environment that has it"
