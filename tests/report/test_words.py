"""Singular and plural, times, shares, and other small words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vram_cli.records import Outcome, Phase
from vram_cli.report import words
from vram_cli.units import GIB, MIB

from .examples import MEMORY


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 trials"), (1, "1 trial"), (2, "2 trials"), (60_000, "60,000 trials")],
)
def test_count(value: int, expected: str) -> None:
    assert words.count(value, "trial") == expected


def test_count_with_an_irregular_plural() -> None:
    assert [words.count(n, "class", "classes") for n in (1, 10)] == ["1 class", "10 classes"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"), (0.75, "0.8 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
        (192, "3 min 12 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min"),
    ],
)  # fmt: skip
def test_duration(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


@pytest.mark.parametrize(
    ("used", "total", "expected"),
    [
        (10 * GIB, 12 * GIB, "10.0 of 12.0 GiB"),
        (812 * MIB, 2 * GIB, "812 MiB of 2.00 GiB"),
        (0, GIB, "0 B of 1.00 GiB"),
    ],
)
def test_used_of(used: int, total: int, expected: str) -> None:
    assert words.used_of(used, total) == expected


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("phase", [None, *Phase])
def test_every_outcome_and_phase_has_words(outcome: Outcome, phase: Phase | None) -> None:
    sentence = words.ended(outcome, phase)
    assert sentence.endswith(words.place(phase))
    assert sentence == sentence.strip()


def test_one_line() -> None:
    assert words.one_line(" a\n  b\tc ") == "a b c"
    assert words.one_line("x" * 20, 10) == "xxxxxxx..."


def test_setting_survives_any_config() -> None:
    for config, value in (({"search": {"margin": 0.05}}, 0.05), ({"search": "fast"}, None), ({}, None)):
        assert words.setting(replace(MEMORY.run, config=config), "search.margin") == value


def test_literal_spells_control_characters_out_and_keeps_lines() -> None:
    assert words.literal("a\x1b[0m\x07\n\tb\u202e").plain == "a\\x1b[0m\\x07\n\tb\\u202e"


def test_two_digits() -> None:
    assert [words.two_digits(value) for value in (0.2, 7, 99.6, 311_482)] == [1, 7, 100, 310_000]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"), (0.9996, "1.00"), (4.556, "4.56"), (9.996, "10.0"), (78.94, "78.9"), (99.96, "100"),
        (999.6, "1,000"), (12_345, "12,300"), (1_234_567, "1,230,000"),
    ],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert words.three_digits(value) == text


def test_step_time() -> None:
    times = [words.step_time(seconds) for seconds in (0.000412, 0.0456, 0.9996, 12.3)]
    assert times == ["0.412 ms", "45.6 ms", "1.00 s", "12.3 s"]
