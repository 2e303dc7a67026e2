"""Byte sizes as text: "4.5GiB" <-> int.

Sizes are printed in KiB, MiB and GiB (powers of 1024, IEC 80000-13). "GB" is refused, because it can
mean 10^9 or 2^30 bytes, and the difference is 7 % of a GPU's memory.
"""

from __future__ import annotations

import re

from vram_cli.errors import ConfigError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

_FACTORS = {"b": 1, "": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SIZE = re.compile(r"\s*([0-9][0-9_]{0,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]{0,10})\s*")
_HINT = "write a number with a unit, such as 8GiB or 512MiB"
_MAX = 2**63 - 1  # the largest argument of a system call


def parse_bytes(text: str | int) -> int:
    """Return the bytes of a size such as "8GiB", "512 MiB" or 1048576, rounded down to a whole byte.

    Raises:
        ConfigError: the text is not a size in B, KiB, MiB, GiB or TiB, or the size is not above zero and below 2**63.
    """
    match = _SIZE.fullmatch(str(text))
    if match is None or isinstance(text, bool):
        raise ConfigError(f"{str(text)[:40]!r} is not a size", _HINT)
    number, unit = match.groups()
    factor = _FACTORS.get(unit.lower())
    if factor is None:
        raise ConfigError(f"{text!r}: {unit!r} is not a unit of size", _unit_hint(number, unit))
    whole, _, fraction = number.replace("_", "").partition(".")
    # Integer arithmetic: a float would lose bytes above 2**53.
    value = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if value <= 0:
        raise ConfigError(f"{text!r} is not a size above zero", _HINT)
    if value > _MAX:
        raise ConfigError(f"{text!r} is larger than any memory", _HINT)
    return value


def format_bytes(value: int) -> str:
    """Return a byte count as text with three to four significant digits: "9.31 GiB", "812 MiB", "64.0 KiB", "17 B"."""
    sign, size = ("-", -value) if value < 0 else ("", value)
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        # Half a unit of the last digit below the next unit: 1023.96 MiB is 1.00 GiB, not 1024 MiB.
        if size >= factor * (1 - 1 / 2048):
            number = size / factor
            digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
            return f"{sign}{number:.{digits}f} {unit}"
    return f"{sign}{size} B"


def format_exact(value: int) -> str:
    """Return an exact byte count as text, with separators: "1,320,702,444"."""
    return f"{value:,}"


def _unit_hint(number: str, unit: str) -> str:
    letter = unit[:1].upper()
    if letter in "KMGT" and unit.lower() in (letter.lower(), letter.lower() + "b"):
        return f"write {number}{letter}iB (powers of 1024)"
    return "use B, KiB, MiB, GiB or TiB"
