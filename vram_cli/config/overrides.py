"""`--set optimizer.name=adamw`: values from the command line, which replace those of a file before the check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from vram_cli.config.messages import first_problem, keys_of, unknown_key
from vram_cli.config.schema import SECTIONS, Config
from vram_cli.config.yaml_document import Document, parse_value
from vram_cli.errors import ConfigError

COMMAND_LINE = "command line"
"""The place of keys that the command line sets."""


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Set keys of a document, each written as `section.key=value` with the value in YAML.

    Another `name` drops the keys that apply to the file's name only: `optimizer.name=adam` drops the file's momentum,
    which Adam does not have. Keys of other overrides are kept, and refused later if they do not apply.

    Raises:
        ConfigError: an override has no "=", an unknown key, or a value that is not YAML.
    """
    parsed = [_parse(text) for text in overrides]
    for (section, *keys), value in parsed:
        if keys and keys[0] in SECTIONS[section].choices:
            _drop_keys_of_old_choice(document, section, keys[0], value)
    for path, value in parsed:
        _set(document, path, value)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Return a config with keys changed as by `--set`, such as "optimizer.name=adamw".

    Raises:
        ConfigError: an override has an unknown key, or the result is not a valid config.
    """
    document = Document(str(config.source), config.model_dump(mode="json", exclude_unset=True))
    apply_overrides(document, overrides)
    try:
        changed = Config.model_validate(document.values)
    except ValidationError as error:
        raise first_problem(error, document) from None
    return changed.with_source(replace(config.source, overrides=(*config.source.overrides, *overrides)))


def _parse(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{COMMAND_LINE}: expected section.key=value, got {text!r}", "such as optimizer.name=adamw")
    if not value.strip():
        raise ConfigError(
            f"{COMMAND_LINE}: {key.strip()}: the value is empty", f"write {key.strip()}=null for no value"
        )
    path = tuple(key.strip().split("."))
    for depth in range(len(path)):
        keys = keys_of(path[:depth])
        if keys is not None and path[depth] not in keys:
            raise unknown_key(path[: depth + 1], COMMAND_LINE)
    return path, parse_value(value, f"{COMMAND_LINE}: {key}")


def _drop_keys_of_old_choice(document: Document, name: str, choice: str, value: Any) -> None:
    section, values = SECTIONS[name], _values_of(document, name)
    kind = value if choice in ("name", "strategy") else choice
    others = [key for key in section.choices if key != choice]
    document.values[name] = {
        key: value for key, value in values.items() if section.takes(kind, key) and key not in others
    }


def _set(document: Document, path: tuple[str, ...], value: Any) -> None:
    # The lines of replaced keys no longer count.
    document.places = {key: place for key, place in document.places.items() if key[: len(path)] != path}
    document.places[path] = COMMAND_LINE
    section, *keys = path
    document.values[section] = _with(_values_of(document, section), keys, value) if keys else value


def _with(values: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return values with one changed, at any depth; the change replaces a list or a word on its path."""
    key, *deeper = keys
    if not deeper:
        return {**values, key: value}
    inner = values.get(key)
    return {**values, key: _with(inner if isinstance(inner, dict) else {}, deeper, value)}


def _values_of(document: Document, section: str) -> dict[str, Any]:
    """Return the keys of a section, even if it is written as one word."""
    values = document.values.get(section)
    if isinstance(values, str):
        return {SECTIONS[section].choices[0]: values}
    return values if isinstance(values, dict) else {}
