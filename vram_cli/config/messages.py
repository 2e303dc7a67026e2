"""What is wrong with a config, in one line: where, which key, what was expected, and what was probably meant."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vram_cli.config.schema import SECTIONS, Config
from vram_cli.config.value_types import format_value
from vram_cli.config.yaml_document import Document, KeyPath, dotted
from vram_cli.errors import ConfigError
from vram_cli.suggest import did_you_mean, nearest

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "model_type": "a section with keys of its own",
    "dict_type": "a mapping of names",
    "finite_number": "a finite number",
    "string_too_short": "some text",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def first_problem(error: ValidationError, document: Document) -> ConfigError:
    """Turn pydantic's errors into one for people: the first, a misspelt key before a missing one."""
    problem = min(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
    path = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return unknown_key(path, document.place(path))
    context = problem.get("ctx", {})
    if blamed := context.get("key"):
        path = (*path, *blamed.split("."))
    text, hint = _explain(problem, path, context)
    return ConfigError(f"{document.place(path)}: {dotted(path)}: {text}", hint or _one_of(path) or _about(path))


def unknown_key(path: KeyPath, place: str) -> ConfigError:
    """Make the error for a key that there is none of, naming the nearest that there is, in any section."""
    *above, last = path
    siblings = keys_of(tuple(above)) or []
    found = nearest(str(last), siblings)
    meant = dotted((*above, found)) if found else _key_elsewhere(str(last))
    message = f"{place}: unknown key {dotted(path)}" + (f", did you mean {meant}?" if meant else "")
    holder = dotted(tuple(above)) or "a config"
    return ConfigError(message, f"{holder} takes {', '.join(siblings) or 'one value, and no keys'}")


def choices(path: KeyPath) -> tuple[str, ...]:
    """Return the words that a key may have for its value, or () where it is not one of a few words."""
    return _words(_kind_at(path))


def _words(annotation: Any) -> tuple[str, ...]:
    """Return the words of a Literal, also where it is one of several kinds of value."""
    if isinstance(annotation, str):
        return (annotation,)
    return tuple(word for part in get_args(annotation) for word in _words(part))


def keys_of(path: KeyPath) -> list[str] | None:
    """Return the keys under a path: the sections of a config for (), those of a section; None where any will do."""
    section, kind = _section_at(path), _kind_at(path)
    if section is not None:
        return list(section.model_fields)
    return None if kind is Any or any(get_origin(part) is dict for part in _parts(kind)) else []


def _section_at(path: KeyPath) -> type[BaseModel] | None:
    return next((kind for kind in _parts(_kind_at(path)) if _is_section(kind)), None)


def _kind_at(path: KeyPath) -> Any:
    """Return the kind of value that stands at a path, as annotated; None where there is no such key."""
    here: Any = Config
    for key in path:
        here = next((kind for part in _parts(here) if (kind := _kind_under(part, key)) is not None), None)
    return here


def _kind_under(kind: Any, key: str | int) -> Any:
    if kind is Any:
        return Any
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if _is_section(kind) and key in kind.model_fields:
        return kind.model_fields[str(key)].annotation
    return None


def _is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def _parts(kind: Any) -> Iterator[Any]:
    """Return a kind of value and, where it is one of several, each of these."""
    yield kind
    if get_origin(kind) is not dict:
        yield from get_args(kind)


def _key_elsewhere(word: str) -> str | None:
    homes: dict[str, str] = {}
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            homes.setdefault(key, f"{name}.{key}")
    homes.pop("name")  # most sections have one
    found = nearest(word, homes)
    return homes[found] if found else None


def _explain(problem: ErrorDetails, path: KeyPath, context: dict[str, Any]) -> tuple[str, str]:
    """Return the message and the hint for one of pydantic's errors."""
    kind, given = problem["type"], problem["input"]
    if kind == "vram":
        return context["problem"], context["hint"]
    if kind == "missing":
        return "is missing", _one_of(path) or _example(path)
    if kind == "literal_error" and isinstance(given, str):
        noun = path[0] if path[-1] == "name" else path[-1]
        return f"unknown {noun} {format_value(given)}{did_you_mean(given, choices(path))}", _one_of(path)
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind][0], context[_BOUNDS[kind][1]]
        return f"must be {word} {int(bound) if bound == int(bound) else bound}, got {format_value(given)}", ""
    expected = _one_of(path) or _EXPECTED.get(kind, problem["msg"])
    return f"expected {expected}, got {format_value(given)}", _example(path)


def _about(path: KeyPath) -> str:
    """Say what a key is for and what it is where nobody sets it; of an item in a list, what the list is for."""
    for end in range(len(path), 0, -1):
        section = _section_at(path[: end - 1])
        field = section.model_fields.get(str(path[end - 1])) if section else None
        if field is not None and field.description:
            default = "" if field.is_required() or field.default is None else f" (left out: {field.default})"
            return " ".join(field.description.split()) + default
    return "`vram schema` prints what each key takes"


def _one_of(path: KeyPath) -> str:
    options = choices(path)
    return f"one of {', '.join(options)}" if options else ""


def _example(path: KeyPath) -> str:
    section = SECTIONS.get(str(path[0]))
    if section is None or len(path) > 1:
        return ""
    key, *_ = section.model_fields
    options = choices((path[0], key))
    if options:
        return f"such as {path[0]}: {{{key}: {options[0]}}}"
    return f"its keys are {', '.join(section.model_fields)}"
