"""From the argument of --config to a checked `Config`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from vram_cli.config.messages import first_problem
from vram_cli.config.overrides import COMMAND_LINE, apply_overrides
from vram_cli.config.schema import Config, ConfigSource
from vram_cli.config.script_command import check_program, set_command
from vram_cli.config.value_types import CONTROL, SURROGATE
from vram_cli.config.yaml_document import Document, dotted, parse_document
from vram_cli.errors import ConfigError
from vram_cli.files import current_folder, read_file
from vram_cli.shell import command_name, shell_line
from vram_cli.suggest import did_you_mean

DEFAULT_CONFIG = "mlp_mnist.yaml"

_PACKAGE = Path(__file__).resolve().parents[1]


def load_config(path: str | Path | None = None, overrides: Sequence[str] = (), command: Sequence[str] = ()) -> Config:
    """Read and check a config.

    Args:
        path: a YAML file. A bare name is searched for in the current folder, then among the bundled configs, with and
            without ".yaml". None selects the bundled `mlp_mnist.yaml`, which `Config.source` says.
        overrides: such as "optimizer.name=adamw", as for `--set`.
        command: a training script and its arguments, such as ["python", "train.py", "--batch-size", "{n}"]. It needs no
            file, and replaces the `script.command` of one.

    Raises:
        ConfigError: the file does not exist or is not valid; the message names the file, the line and the key. Or a
            script's program does not exist.
    """
    source = _source(path, command)
    replaced = (f"script.command={shell_line(command)}",) if command and not source.is_command else ()
    source = replace(source, overrides=(*overrides, *replaced))
    _check_text(str(source.path or ""), CONTROL, "rename the file")
    _check_text("\n".join((*overrides, *command)), SURROGATE, "write the command line in UTF-8")
    document = _document(source)
    apply_overrides(document, overrides)
    if command:
        set_command(document, command)
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise first_problem(error, document) from None
    if config.user_code:
        _check_text(str(source.folder), SURROGATE, "rename the folder: the worker process gets its name in UTF-8")
    places = {dotted(key): place for key, place in document.places.items()}
    config = config.with_source(replace(source, places=places))
    check_program(config)
    return config


def bundled_folder() -> Path:
    """Return the folder of the bundled configs: inside the wheel, or beside the package in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def bundled_configs() -> list[str]:
    """Return the file names of the bundled configs, sorted."""
    return sorted(file.name for file in bundled_folder().glob("*.yaml"))


def _source(path: str | Path | None, command: Sequence[str]) -> ConfigSource:
    if path is None and command:
        return ConfigSource(name=command_name(command), folder=current_folder(), is_command=True)
    return _find(path)


def _document(source: ConfigSource) -> Document:
    if source.is_command:
        return Document(COMMAND_LINE, {})
    label = source.name if source.is_bundled else str(source.path)
    file = bundled_folder() / source.name if source.is_bundled else Path(label)
    return parse_document(_read(file, label), label)


def _find(path: str | Path | None) -> ConfigSource:
    if path is None:
        return ConfigSource(name=DEFAULT_CONFIG, folder=current_folder(), is_bundled=True, is_default=True)
    file = Path(path)
    if len(file.parts) != 1 or file.is_absolute():
        return _source_of(file)
    names = [str(path)] if file.suffix in (".yaml", ".yml") else [str(path), f"{path}.yaml"]
    for name in names:
        if _exists(Path(name)) and not Path(name).is_dir():
            return _source_of(Path(name))
    for name in names:
        if name in bundled_configs():
            return ConfigSource(name=name, folder=current_folder(), is_bundled=True)
    if _exists(file):
        return _source_of(file)  # a folder: reading it raises the error
    bundled = bundled_configs()
    message = (
        f"{path}: no such config in {current_folder()} or among the bundled configs{did_you_mean(str(path), bundled)}"
    )
    raise ConfigError(message, f"bundled: {', '.join(bundled)}; `vram init` writes a new one")


def _source_of(file: Path) -> ConfigSource:
    absolute = file if file.is_absolute() else current_folder() / file
    return ConfigSource(name=file.name, path=file, folder=absolute.parent)


def _check_text(text: str, forbidden: re.Pattern[str], advice: str) -> None:
    """Refuse text that answers cannot hold: they are UTF-8, and a name in them is on one line."""
    if forbidden.search(text):
        shown = text.encode("unicode_escape").decode("ascii")
        raise ConfigError(f"{shown}: has characters that are not text, such as line breaks", advice)


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a name too long for the file system, for example
        return False


def _read(file: Path, label: str) -> str:
    try:
        content = read_file(file)
    except FileNotFoundError:
        raise ConfigError(f"{label}: no such file", f"bundled configs: {', '.join(bundled_configs())}") from None
    except OSError as error:
        # Windows says "permission denied" of a folder.
        if isinstance(error, (IsADirectoryError, PermissionError)) and file.is_dir():
            raise ConfigError(f"{label}: is a folder, not a YAML file", "name a file in it") from None
        raise ConfigError(f"{label}: cannot be read: {error.strerror}", "check its permissions") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"{label}:{line}: not UTF-8 text: byte 0x{content[error.start]:02x}"
        raise ConfigError(message, "save the file as UTF-8") from None
