"""`--set optimizer.name=adamw`: values from the command line, put over those of a file before they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from vram_cli.config.document import Document, parse_value
from vram_cli.config.problems import first_problem, keys_of, unknown_key
from vram_cli.config.schema import SECTIONS, Config
from vram_cli.errors import ConfigError

_PLACE = "command line"


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Set keys of a document, each written as `section.key=value` with the value in YAML.

    Another `name` leaves out what the file says for the old one only: `optimizer.name=adam` drops the file's momentum,
    which Adam does not have. What another override sets is kept, and refused later if it makes no sense.

    Raises:
        ConfigError: an override has no "=", names no key, or its value is not YAML.
    """
    parsed = [_parse(text) for text in overrides]
    for path, value in parsed:
        if len(path) == 2 and path[0] in SECTIONS and path[1] in SECTIONS[path[0]].choices:
            _drop_keys_of_old_choice(document, path, value)
    for path, value in parsed:
        _set(document, path, value)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Return a config with keys changed, as `Config.changed` says."""
    document = Document(str(config.source), config.model_dump(mode="json", exclude_unset=True))
    apply_overrides(document, overrides)
    try:
        made = Config.model_validate(document.values)
    except ValidationError as error:
        raise first_problem(error, document) from None
    return made.with_source(replace(config.source, overrides=(*config.source.overrides, *overrides)))


def _parse(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{_PLACE}: {text!r} sets nothing", "write section.key=value, such as optimizer.name=adamw")
    path = tuple(key.strip().split("."))
    for depth in range(len(path)):
        if path[depth] not in keys_of(path[:depth]):
            raise unknown_key(path[: depth + 1], _PLACE)
    return path, parse_value(value, f"{_PLACE}: {key}")


def _drop_keys_of_old_choice(document: Document, path: tuple[str, ...], value: Any) -> None:
    section, choice = path
    values, known = document.values.get(section), SECTIONS[section]
    if isinstance(values, dict):
        kind = value if choice == "name" else choice
        others = [key for key in known.choices if key != choice]
        document.values[section] = {
            key: value for key, value in values.items() if known.takes(kind, key) and key not in others
        }


def _set(document: Document, path: tuple[str, ...], value: Any) -> None:
    # Places of what is replaced would name lines that no longer count.
    document.places = {where: place for where, place in document.places.items() if where[: len(path)] != path}
    document.places[path] = _PLACE
    if len(path) == 1:
        document.values[path[0]] = value
        return
    values = document.values.get(path[0])
    values = {"name": values} if isinstance(values, str) else values if isinstance(values, dict) else {}
    document.values[path[0]] = {**values, path[1]: value}
