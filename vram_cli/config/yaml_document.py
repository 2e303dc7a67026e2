"""YAML text -> plain values, and the line of each.

Read with PyYAML's safe loader and YAML 1.2's core types: `1e-3` is a number, and `no`, `off` or a date are plain text.
Tags are refused, never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from vram_cli.config.value_types import format_value
from vram_cli.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""("optimizer", "name") is the key optimizer.name."""

_TAG = "tag:yaml.org,2002:"
# The patterns of plain scalars and their conversions; the first pattern that matches wins.
_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "int": (re.compile(r"[-+]?[0-9][0-9_]*"), lambda text: int(text.replace("_", ""))),
    "float": (
        re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        lambda text: float(re.sub(r"_|\.(?=[iInN])", "", text)),
    ),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    "null": (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    "str": (re.compile(r"[\s\S]*"), str),
}


@dataclass
class Document:
    """The values of a file, and the place of each."""

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    """"FILE:LINE" of a key, or the override that set it."""

    def place(self, path: KeyPath) -> str:
        """Return the place of a key, or of the nearest parent that has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core types."""


_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern.pattern})\\Z"), None)


def parse_document(text: str, name: str) -> Document:
    """Read a whole YAML file.

    Raises:
        ConfigError: the file is not YAML, is empty, is not a mapping, sets a key twice, or uses tags.
    """
    places: dict[KeyPath, str] = {}
    values = _Reader(lambda line: f"{name}:{line}", places).parse(text)
    if values is None:
        raise ConfigError(f"{name}: the file is empty", "`vram init` writes a config to start from")
    if not isinstance(values, dict):
        raise ConfigError(f"{name}:1: expected sections such as model:, got {format_value(values)}", "see `vram init`")
    return Document(name, values, places)


def parse_value(text: str, place: str) -> Any:
    """Read one value, such as `0.9`, `null` or `[3, 224, 224]`; errors name its `place`.

    Raises:
        ConfigError: as for `parse_document`.
    """
    return _Reader(lambda _: place, {}).parse(text)


@dataclass
class _Reader:
    """Turns nodes into plain values and records the place of each key."""

    place: Callable[[int], str]
    places: dict[KeyPath, str]

    def parse(self, text: str) -> Any:
        try:
            node = yaml.compose(text, Loader=_Loader)
            return None if node is None else self.read(node, ())
        except yaml.MarkedYAMLError as error:
            problem = error.problem or error.context or ""
            line, column = (error.problem_mark.line, error.problem_mark.column) if error.problem_mark else (0, 0)
            tabs = "'\\t'" in problem
            hint = "indent with spaces, not with tabs" if tabs else "look for a missing bracket, quote or colon there"
            message = f"{self.place(line + 1)}: not valid YAML: {problem} (column {column + 1})"
            raise ConfigError(message, hint) from None
        except RecursionError:
            raise ConfigError(f"{self.place(1)}: nested too deeply", "write plain values") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            message = f"{self.place(line)}: not valid YAML: a control character (0x{error.character:02x})"
            raise ConfigError(message, "save the file as plain UTF-8 text") from None

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar(node)
        tag = node.tag.replace(_TAG, "!!")
        raise ConfigError(f"{self._at(node)}: the tag {format_value(tag)} is not allowed", "write plain values")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        pattern, convert = _SCALARS[kind]
        try:
            if pattern.fullmatch(node.value):
                return convert(node.value)
        except ValueError:  # more digits than Python converts to a number
            pass
        message = f"{self._at(node)}: {format_value(node.value)} cannot be read as {kind}"
        raise ConfigError(message, "quote it if it is text")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            key_path = (*path, key)
            if key in values:
                first = self.places[key_path]
                message = f"{self._at(key_node)}: {dotted(key_path)} is set twice, first at {first}"
                raise ConfigError(message, "keep one of them")
            self.places[key_path] = self._at(key_node)
            values[key] = self.read(value_node, key_path)
        return values

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.places[path] = self._at(node)
        return self.read(node, path)

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{self._at(node)}: a key must be a plain word", "see `vram init` for all keys")
        self.read(node, ())  # refuses tags
        return str(node.value)

    def _at(self, node: yaml.Node) -> str:
        return self.place(node.start_mark.line + 1)


def dotted(path: KeyPath) -> str:
    """Return a key in dotted form: optimizer.name, data.shape[0]."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if part.isprintable() and len(part) <= 40 else format_value(part)
            text += f".{word}" if text else word
    return text
