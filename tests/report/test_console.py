"""stdout is the answer and stderr the rest; widths, colours and errors."""

from __future__ import annotations

import pytest

from vram_cli.errors import ConfigError, WorkloadError
from vram_cli.report.console import inform, print_answer, print_error, stderr_console, stdout_console, warn

from .drawing import text
from .examples import MEMORY
from .processes import needs_terminal, run_on_terminal, run_piped


def test_a_pipe_gets_80_columns_and_no_escape_codes() -> None:
    done = run_piped("print_answer(answer(MEMORY))")
    assert done.stdout == text(MEMORY)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_columns_overrules_and_an_encoding_may_be_poor() -> None:
    done = run_piped("print_answer(answer(MEMORY))", COLUMNS="61", PYTHONIOENCODING="ascii")
    assert done.stdout == text(MEMORY, 61, "ascii")


def test_a_character_that_stdout_cannot_take_does_not_end_the_program() -> None:
    done = run_piped("print_answer('caf\\u00e9'); warn('caf\\u00e9')", PYTHONIOENCODING="ascii")
    assert (done.stdout, done.stderr) == ("caf?\n", "warning: caf?\n")


@needs_terminal
def test_a_terminal_gets_its_own_width_and_styles() -> None:
    sent = run_on_terminal("print_answer(answer(MEMORY))", columns=100)
    assert "\x1b[1mLargest batch size:\x1b[0m" in sent
    bare = run_on_terminal("print_answer(answer(MEMORY), plain=True)", columns=100)
    assert bare == text(MEMORY, 100)


@needs_terminal
def test_no_color_takes_all_styles_away() -> None:
    code = "print_answer(answer(MEMORY)); warn('w'); print_error(ConfigError('m', 'h'))"
    sent = run_on_terminal(f"from vram_cli.errors import *\n{code}", columns=100, NO_COLOR="1")
    assert sent == text(MEMORY, 100) + "warning: w\nerror: m\nhint: h\n"


def test_a_console_is_never_too_narrow_for_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert stdout_console().width == 60
    monkeypatch.setenv("COLUMNS", "90")
    assert stdout_console().width == 90


def test_a_dumb_terminal_honours_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert stdout_console().width == 100


def test_an_error_and_its_hint_are_shown_as_they_are_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    message = "c.yaml: [red]shape[/red]: [1, 2] :smile: " + "long/" * 60
    print_error(ConfigError(message, "set [1, 28, 28]"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {message}\nhint: set [1, 28, 28]\n"


def test_names_forge_no_line_and_long_messages_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ConfigError("a\n::error::b.yaml \udcff \x1b[2J" + "long " * 10**6, "h\n::notice::i"))
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(r"error: a\n::error::b.yaml \udcff \x1b[2J")
    assert "characters ...]" in error
    assert len(error) < 2200
    assert hint == r"hint: h\n::notice::i"


def test_an_error_without_a_hint_has_no_hint_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ConfigError("no"))
    assert capsys.readouterr().err == "error: no\n"


def test_the_traceback_of_a_users_own_error_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    traceback = 'Traceback (most recent call last):\n  File "m.py", line 1, in f\nValueError: [bold] bad\n'
    print_error(WorkloadError("the step raised ValueError", "mend it", traceback))
    assert capsys.readouterr().err == f"{traceback}error: the step raised ValueError\nhint: mend it\n"


def test_remarks_and_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    inform("saved to [1].json")
    warn("[1, 2] is [b]old[/b]")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "saved to [1].json\nwarning: [1, 2] is [b]old[/b]\n")


def test_strings_in_an_answer_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer("[red]x[/red] :smile:")
    assert capsys.readouterr().out == "[red]x[/red] :smile:\n"


def test_all_that_goes_to_stderr_shares_a_console() -> None:
    assert stderr_console() is stderr_console()
