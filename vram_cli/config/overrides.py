"""`--set optimizer.name=adamw`: values from the command line, put over those of a file before they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from vram_cli.config.messages import first_problem, keys_of, unknown_key
from vram_cli.config.schema import SECTIONS, Config
from vram_cli.config.yaml_document import Document, parse_value
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
    for (section, *keys), value in parsed:
        if keys and keys[0] in SECTIONS[section].choices:
            _drop_keys_of_old_choice(document, section, keys[0], value)
    for path, value in parsed:
        _set(document, path, value)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return a config with keys changed as `--set` changes them, such as "optimizer.name=adamw".

    Raises:
        ConfigError: an override names an unknown key, or the result is not a valid config.
    """
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
        known = keys_of(path[:depth])
        if known is not None and path[depth] not in known:
            raise unknown_key(path[: depth + 1], _PLACE)
    return path, parse_value(value, f"{_PLACE}: {key}")


def _drop_keys_of_old_choice(document: Document, section: str, choice: str, value: Any) -> None:
    known, values = SECTIONS[section], _values_of(document, section)
    kind = value if choice == "name" else choice
    others = [key for key in known.choices if key != choice]
    document.values[section] = {
        key: value for key, value in values.items() if known.takes(kind, key) and key not in others
    }


def _set(document: Document, path: tuple[str, ...], value: Any) -> None:
    # Places of what is replaced would name lines that no longer count.
    document.places = {where: place for where, place in document.places.items() if where[: len(path)] != path}
    document.places[path] = _PLACE
    section, *keys = path
    document.values[section] = _with(_values_of(document, section), keys, value) if keys else value


def _with(values: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return values with one changed, at any depth; a list or a word in its way makes room."""
    key, *deeper = keys
    if not deeper:
        return {**values, key: value}
    inner = values.get(key)
    return {**values, key: _with(inner if isinstance(inner, dict) else {}, deeper, value)}


def _values_of(document: Document, section: str) -> dict[str, Any]:
    """Return the keys of a section, also where one word stands for it."""
    values = document.values.get(section)
    if isinstance(values, str):
        return {SECTIONS[section].choices[0]: values}
    return values if isinstance(values, dict) else {}
