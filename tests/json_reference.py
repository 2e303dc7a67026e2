"""Tables of the JSON of `--json`, made from the annotations and docstrings of the records."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from datetime import date
from enum import Enum
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vram_cli.compare.records import Comparison
from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.gpus import Gpu
from vram_cli.records import Advice, BreakdownResult, CheckResult, ErrorReport, FindBatchResult, Inspection

ANSWERS = (FindBatchResult, BreakdownResult, Advice, Comparison, CheckResult, Inspection, Gpu, Calibration, ErrorReport)
PLAIN = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
    Any: "any value",
    date: "text, YYYY-MM-DD",
}


def reference() -> str:
    """Return a section per record, in the order in which a reader meets them."""
    return "\n".join(_section(record) for record in _reached())


def _reached() -> list[type]:
    found: dict[type, None] = {}
    waiting: list[type] = list(ANSWERS)
    while waiting:
        record = waiting.pop(0)
        if record not in found:
            found[record] = None
            waiting += (
                [] if issubclass(record, Enum) else [one for hint in _fields(record).values() for one in _own(hint)]
            )
    return list(found)


def _fields(record: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(record).items() if name != "model_config"}


def _own(hint: Any) -> Iterator[type]:
    """Yield the records and enums of vram in a type."""
    if isinstance(hint, type) and hint.__module__.startswith("vram_cli"):
        yield hint
    for part in get_args(hint) if get_origin(hint) is not Literal else ():
        yield from _own(part)


def _section(record: type) -> str:
    meaning = {name: text for part in reversed(record.__mro__) for name, text in _docstrings(part).items()}
    if issubclass(record, Enum):
        rows = [(f'`"{member.value}"`', meaning.get(member.name, "")) for member in record]
        head = ("value", "meaning")
    else:
        rows = [(f"`{name}`", _type(hint), meaning.get(name, "")) for name, hint in _fields(record).items()]
        head = ("key", "type", "meaning")
    lines = [f"### {record.__name__}", "", _summary(record), "", *map(_row, (head, ("---",) * len(head), *rows)), ""]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _summary(record: type) -> str:
    return " ".join((inspect.getdoc(record) or "").split("\n\n")[0].split())


def _docstrings(record: type) -> dict[str, str]:
    """Return the string below each field of a class of vram, as one line of a table."""
    found: dict[str, str] = {}
    if not record.__module__.startswith("vram_cli"):
        return found
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0].body  # type: ignore[attr-defined]
    for field, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            target = field.target if isinstance(field, ast.AnnAssign) else field.targets[0]
            found[target.id] = re.sub(r"\s+", " ", below.value.value.strip()).replace("|", "\\|")
    return found


def _type(hint: Any) -> str:
    """Return a type in words; records are links to their section."""
    parts, origin = get_args(hint), get_origin(hint)
    if origin in (Union, UnionType):
        words = " or ".join(map(_type, parts))
    elif origin is Literal:
        words = " or ".join(f"`{json.dumps(value)}`" for value in parts)
    elif origin is tuple:
        words = f"list of {_type(parts[0])}" if parts[-1] is ... else f"list of {len(parts)}: {_type(parts[0])}"
    elif origin is dict:
        words = f"object: {_type(parts[0])} to {_type(parts[1])}"
    elif hint.__module__.startswith("vram_cli"):
        words = f"[{hint.__name__}](#{hint.__name__.lower()})"
    else:
        words = PLAIN[hint]
    return words
