"""Texts of exceptions whose classes and messages are odd."""

from __future__ import annotations

import pytest

from vram_cli.workload import error_summary, text_of, traceback_of


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_exception_without_a_text_keeps_its_type_and_place() -> None:
    assert (
        error_summary(UnspeakableError())
        == "UnspeakableError: (its text cannot be shown: __str__ raises ZeroDivisionError)"
    )
    assert "test_error_text.py" in traceback_of(raised(UnspeakableError()))
    assert "UnspeakableError" in traceback_of(raised(UnspeakableError()))


@pytest.mark.parametrize("text", ["a \udcff b", "\ud800" * 3])
def test_lone_surrogates_are_escaped(text: str) -> None:
    for printed in (error_summary(ValueError(text)), text_of(ValueError(text)), traceback_of(raised(ValueError(text)))):
        printed.encode()
        assert "\\ud" in printed


def test_long_messages_are_cut() -> None:
    error = raised(ValueError("first " + "x" * 50_000_000 + " last"))
    for printed, limit in ((error_summary(error), 1100), (traceback_of(error), 21_000)):
        assert len(printed) < limit
        assert "characters left out" in printed
        assert printed.endswith("last\n" if "Traceback" in printed else "last")
    assert "test_error_text.py" in traceback_of(error)


def test_short_messages_are_unchanged() -> None:
    assert error_summary(ValueError("as it is\nsecond line")) == "ValueError: as it is"
    assert text_of(ValueError("as it is\nsecond line")) == "as it is\nsecond line"
