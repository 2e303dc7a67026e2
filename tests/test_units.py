"""Byte sizes as text: parsing and formatting."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.errors import ConfigError
from vram_cli.units import GIB, KIB, MIB, TIB, format_bytes, format_exact, parse_bytes

SIZES = st.integers(min_value=1, max_value=2**62)
FACTORS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * GIB),
        ("  512 MiB ", 512 * MIB),
        ("1.5gib", 3 * GIB // 2),
        ("0.1GiB", 107_374_182),
        ("1_000", 1000),
        ("17B", 17),
        (1_048_576, MIB),
    ],
)
def test_parse(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@given(SIZES)
def test_parse_whole_bytes(size: int) -> None:
    assert parse_bytes(size) == parse_bytes(str(size)) == parse_bytes(f"{size} B") == size


@given(st.decimals(min_value=1, max_value=99_999, places=6), st.sampled_from(sorted(FACTORS)))
def test_parse_fractions_exactly(number: Decimal, unit: str) -> None:
    exact = (number * FACTORS[unit]).to_integral_value(rounding=ROUND_FLOOR)
    assert parse_bytes(f"{number}{unit}") == int(exact)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("8GB", "'8GB': 'GB' is not a unit of size", "write 8GiB (powers of 1024)"),
        ("8g", "'8g': 'g' is not a unit of size", "write 8GiB (powers of 1024)"),
        ("512kb", "'512kb': 'kb' is not a unit", "write 512KiB"),
        ("3 apples", "'3 apples': 'apples' is not a unit", "use B, KiB, MiB, GiB or TiB"),
        ("", "'' is not a size", "such as 8GiB"),
        ("lots", "'lots' is not a size", "such as 8GiB"),
        ("-8GiB", "'-8GiB' is not a size", "such as 8GiB"),
        (-8, "'-8' is not a size", "such as 8GiB"),
        (True, "'True' is not a size", "such as 8GiB"),
        ("8GiB 8", "'8GiB 8' is not a size", "such as 8GiB"),
        ("٨GiB", "'٨GiB' is not a size", "such as 8GiB"),
        ("0", "'0' is not a size above zero", "such as 8GiB"),
        ("0.5", "'0.5' is not a size above zero", "such as 8GiB"),
        ("8388608TiB", "'8388608TiB' is larger than any memory", "such as 8GiB"),
        ("9" * 5000, f"'{'9' * 40}' is not a size", "such as 8GiB"),
    ],
)
def test_parse_refuses_with_a_hint(text: str | int, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_bytes(text)
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


def problem_of(text: str) -> str:
    try:
        parse_bytes(text)
    except ConfigError as error:
        return error.message
    return ""


@given(st.text(max_size=20) | st.from_regex(r"[0-9_.]{1,8} ?[KMGTiBb]{0,4}"))
def test_any_text_is_a_size_or_a_config_error(text: str) -> None:
    assert "\n" not in problem_of(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (17, "17 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (64 * KIB, "64.0 KiB"),
        (812 * MIB, "812 MiB"),
        (int(1023.96 * MIB), "1.00 GiB"),
        (10 * GIB - 1, "10.0 GiB"),
        (80 * GIB, "80.0 GiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_format(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(SIZES)
def test_format_is_within_half_a_percent(size: int) -> None:
    # Three digits: at worst half a unit of the last one in 1.00.
    assert abs(parse_bytes(format_bytes(size)) - size) <= size * 0.005 + 1


@given(st.integers(min_value=0, max_value=1000 * TIB))
def test_format_has_at_most_four_digits(size: int) -> None:
    number = format_bytes(size).split()[0]
    assert len(number.replace(".", "")) <= 4


@given(SIZES, SIZES)
def test_format_keeps_the_order(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert parse_bytes(format_bytes(small)) <= parse_bytes(format_bytes(large))


@given(st.integers())
def test_format_exact(size: int) -> None:
    assert int(format_exact(size).replace(",", "")) == size
