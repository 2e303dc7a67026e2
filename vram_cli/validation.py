"""Messages for JSON that does not match a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_LIMIT = 200


def first_problem(error: ValidationError) -> str:
    """Return the first problem in one line: the field and the reason."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return f"{field} is missing"
    text = first["msg"].removeprefix("Value error, ")
    message = f"{field}: {text[:1].lower()}{text[1:]}".removeprefix(": ")
    return " ".join(message.split())[:_LIMIT]
