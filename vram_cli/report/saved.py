"""Saved answers: written by `--save` as the JSON that `--json` prints, read and validated by `vram show`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from vram_cli.errors import ConfigError
from vram_cli.files import read_file, write_file
from vram_cli.records import SCHEMA_VERSION, Advice, BreakdownResult, FindBatchResult
from vram_cli.report.formats.json import to_json
from vram_cli.report.words import one_line
from vram_cli.validation import first_problem

SavedResult = FindBatchResult | BreakdownResult | Advice

_RECORDS: dict[str, type[Any]] = {"find-batch": FindBatchResult, "breakdown": BreakdownResult, "advise": Advice}

_DIGITS, _MOST = 20, 1e30

_HINT = "name a file that find-batch, breakdown or advise wrote with --save, or run one of them again"


def save(record: Any, path: Path, *, force: bool = False) -> None:
    """Write a record as JSON: the whole file or nothing. An existing file is replaced only with `force`.

    Raises:
        ConfigError: the file cannot be written, or exists.
    """
    write_file(to_json(record) + "\n", path, force=force)


def load(path: Path) -> SavedResult:
    """Read a saved result.

    Raises:
        ConfigError: the file cannot be read, or is not a saved result of this version of vram.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", _HINT)
    try:
        content = read_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    return from_json(content.decode("utf-8", errors="replace"), str(path))


def from_json(text: str, source: str) -> SavedResult:
    """Read a result from JSON; `source` names the text in messages.

    Figures that follow from others are not read. Records check that theirs add up.

    Raises:
        ConfigError: the text is not JSON, or not a result of this version of vram.
    """
    try:
        document = json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=_real)
    except _OutOfRangeError as error:
        raise ConfigError(f"{source}: {error} is no figure that vram writes", _HINT) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {' '.join(str(error).split())[:160]}", _HINT) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise ConfigError(f"{source}: not a result of vram: schema_version is missing", _HINT)
    if version != SCHEMA_VERSION:
        problem = f"{source}: schema_version is {version}, and this vram reads {SCHEMA_VERSION}"
        raise ConfigError(problem, "pip install --upgrade vram-cli" if version > SCHEMA_VERSION else _HINT)
    command = str(document.get("command"))
    if command not in _RECORDS:
        raise ConfigError(f"{source}: command is not {', '.join(_RECORDS)}", _HINT)
    try:
        result: SavedResult = _adapter(command).validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(error)}", _HINT) from None
    return result


class _OutOfRangeError(Exception):
    """A number that no measurement gives, and with which figures cannot be calculated."""


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS or abs(int(digits)) >= 2**63:
        raise _OutOfRangeError(one_line(digits, 40))
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if not abs(value) < _MOST:  # NaN too
        raise _OutOfRangeError(one_line(text, 40))
    return value


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema of saved results."""
    union: TypeAdapter[Any] = TypeAdapter(Annotated[SavedResult, Field(discriminator="command")])
    return union.json_schema()


@cache
def _adapter(command: str) -> TypeAdapter[Any]:
    return TypeAdapter(_RECORDS[command])
