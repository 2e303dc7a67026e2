"""One-line errors about a config: the place, the key, the expected value, and the nearest valid word."""

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
    "model_type": "a section with keys",
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
    """Turn pydantic's errors into one for people: the first, but a misspelled key before a missing one."""
    problem = min(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
    path = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return unknown_key(path, document.place(path))
    context = problem.get("ctx", {})
    if key := context.get("key"):
        path = (*path, *key.split("."))
    text, hint = _explain(problem, path, context)
    return ConfigError(f"{document.place(path)}: {dotted(path)}: {text}", hint or _one_of(path) or _describe(path))


def unknown_key(path: KeyPath, place: str) -> ConfigError:
    """Return the error for an unknown key, with the nearest key of its section, or else of any section."""
    *parents, last = path
    siblings = keys_of(tuple(parents)) or []
    sibling = nearest(str(last), siblings)
    match = dotted((*parents, sibling)) if sibling else _key_elsewhere(str(last))
    message = f"{place}: unknown key {dotted(path)}" + (f", did you mean {match}?" if match else "")
    parent = dotted(tuple(parents)) or "a config"
    return ConfigError(message, f"{parent} takes {', '.join(siblings) or 'one value, not keys'}")


def choices(path: KeyPath) -> tuple[str, ...]:
    """Return the words that a key accepts, or () if it does not take one of a few words."""
    return _words(_type_at(path))


def _words(annotation: Any) -> tuple[str, ...]:
    """Return the words of a Literal, also inside a union."""
    if isinstance(annotation, str):
        return (annotation,)
    return tuple(word for part in get_args(annotation) for word in _words(part))


def keys_of(path: KeyPath) -> list[str] | None:
    """Return the keys under a path: for (), the sections of a config; None if any key is valid."""
    section, annotation = _section_at(path), _type_at(path)
    if section is not None:
        return list(section.model_fields)
    return None if annotation is Any or any(get_origin(part) is dict for part in _members(annotation)) else []


def _section_at(path: KeyPath) -> type[BaseModel] | None:
    return next((part for part in _members(_type_at(path)) if _is_section(part)), None)


def _type_at(path: KeyPath) -> Any:
    """Return the annotation of the value at a path; None if there is no such key."""
    annotation: Any = Config
    for key in path:
        types = (_type_under(part, key) for part in _members(annotation))
        annotation = next((part for part in types if part is not None), None)
    return annotation


def _type_under(annotation: Any, key: str | int) -> Any:
    if annotation is Any:
        return Any
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if _is_section(annotation) and key in annotation.model_fields:
        return annotation.model_fields[str(key)].annotation
    return None


def _is_section(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _members(annotation: Any) -> Iterator[Any]:
    """Return an annotation and the members of a union."""
    yield annotation
    if get_origin(annotation) is not dict:
        yield from get_args(annotation)


def _key_elsewhere(word: str) -> str | None:
    paths: dict[str, str] = {}
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            paths.setdefault(key, f"{name}.{key}")
    paths.pop("name")  # most sections have one
    match = nearest(word, paths)
    return paths[match] if match else None


def _explain(problem: ErrorDetails, path: KeyPath, context: dict[str, Any]) -> tuple[str, str]:
    """Return the message and the hint for one of pydantic's errors."""
    kind, value = problem["type"], problem["input"]
    if kind == "vram":
        return context["problem"], context["hint"]
    if kind == "missing":
        return "is missing", _one_of(path) or _example(path)
    if kind == "literal_error" and isinstance(value, str):
        noun = path[0] if path[-1] == "name" else path[-1]
        return f"unknown {noun} {format_value(value)}{did_you_mean(value, choices(path))}", _one_of(path)
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind][0], context[_BOUNDS[kind][1]]
        return f"must be {word} {int(bound) if bound == int(bound) else bound}, got {format_value(value)}", ""
    expected = _one_of(path) or _EXPECTED.get(kind, problem["msg"])
    return f"expected {expected}, got {format_value(value)}", _example(path)


def _describe(path: KeyPath) -> str:
    """Return the description of a key with its default; for an item of a list, that of the list."""
    for end in range(len(path), 0, -1):
        section = _section_at(path[: end - 1])
        field = section.model_fields.get(str(path[end - 1])) if section else None
        if field is not None and field.description:
            default = "" if field.is_required() or field.default is None else f" (default: {field.default})"
            return " ".join(field.description.split()) + default
    return "`vram schema` prints all keys and their values"


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
