"""Texts of exceptions from code that vram does not know: short, printable, and there whatever their classes do."""

from __future__ import annotations

import traceback

_MAX_CHARACTERS = 20_000


def text_of(error: BaseException) -> str:
    """Return `str(error)`, shortened; a remark if that raises."""
    try:
        return _printable(str(error))
    except Exception as second:  # noqa: BLE001 - it belongs to the user's class, too
        return f"(its text cannot be shown: __str__ raises {type(second).__name__})"


def traceback_of(error: BaseException) -> str:
    """Return the formatted traceback, shortened in the middle."""
    return _printable("".join(traceback.format_exception(error)))


def shortened(text: str, max_characters: int) -> str:
    """Return a text without its middle, if it is too long."""
    left_out = len(text) - max_characters
    if left_out <= 0:
        return text
    half = max_characters // 2
    return f"{text[:half]} … {left_out:,} characters left out … {text[-half:]}"


def _printable(text: str) -> str:
    """Return a shortened text without lone surrogates, which no message and no terminal can encode."""
    return shortened(text, _MAX_CHARACTERS).encode("utf-8", "backslashreplace").decode()
