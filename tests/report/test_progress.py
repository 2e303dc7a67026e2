"""Progress: a plain line a trial in a pipe, a live line on a terminal, nothing when quiet; never on stdout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vram_cli.records import Measurement, Outcome
from vram_cli.report.progress import SearchProgress

from .examples import failed, ran
from .processes import needs_terminal, run_on_terminal, run_piped

SEARCH = """
from dataclasses import dataclass
from vram_cli.report.progress import SearchProgress
@dataclass
class Bracket:
    largest_ok: int
    smallest_failed: int | None
with SearchProgress() as progress:
    progress.status("importing torch")
    progress.trial_started(512, Bracket(0, None)); progress.trial_finished(ran(512), Bracket(512, None))
    warn("[careful]")
    progress.trial_started(1024, Bracket(512, None)); progress.trial_finished(failed(1024), Bracket(512, 1024))
    progress.trial_started(768, Bracket(512, 1024)); import time; time.sleep(0.3)
print_answer("the answer")
"""


@dataclass(frozen=True)
class Bracket:
    largest_ok: int
    smallest_failed: int | None


def test_a_pipe_gets_one_line_a_trial_on_stderr() -> None:
    done = run_piped(SEARCH)
    assert done.stdout == "the answer\n"
    assert done.stderr.splitlines() == [
        "        512  fits, 3.67 GiB at its peak, 2.0 s (fits 512)",
        "warning: [careful]",
        "      1,024  out of memory in backward, 10.6 GiB at its peak, 1.4 s (fits 512, fails 1,024)",
    ]


@needs_terminal
def test_a_terminal_gets_a_live_line_that_leaves_the_trials_behind() -> None:
    sent = run_on_terminal(SEARCH)
    assert "trying 768 (fits 512, fails 1,024)" in sent
    assert "fits\x1b[0m, 3.67 GiB at its peak, 2.0 s" in sent
    assert "\x1b[33mwarning: \x1b[0m[careful]" in sent
    # The live line is wiped before the answer is printed.
    assert sent.endswith("\x1b[2Kthe answer\n")


@needs_terminal
def test_a_live_line_keeps_its_hands_off_stdout(tmp_path: Path) -> None:
    target = tmp_path / "stdout"
    run_on_terminal(
        "import sys; from vram_cli.report.progress import SearchProgress\n"
        f"sys.stdout = open({str(target)!r}, 'w')\n"
        "with SearchProgress(): print('data'); sys.stdout.flush()"
    )
    assert target.read_text() == "data\n"


@needs_terminal
def test_a_dumb_terminal_gets_plain_lines() -> None:
    sent = run_on_terminal(SEARCH, TERM="dumb")
    assert "trying" not in sent
    assert "1.4 s (fits 512, fails 1,024)" in sent


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress(quiet=True) as progress:
        progress.status("building the model")
        progress.trial_started(1, Bracket(0, None))
        progress.trial_finished(ran(1), Bracket(1, None))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("trial", "line"),
    [
        (ran(8, 9.4, retries=2), "          8  fits, but thrashes, 240 MiB at its peak, 9.4 s (fits 8)\n"),
        (
            Measurement(batch_size=9, outcome=Outcome.KILLED, seconds=3.0),
            "          9  killed, 3.0 s (fits 8)\n",
        ),
    ],
)
def test_lines_say_how_a_trial_ended(trial: Measurement, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress() as progress:
        progress.trial_finished(trial, Bracket(8, None))
    assert capsys.readouterr().err == line


def test_nothing_is_known_of_the_bracket_at_first(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress() as progress:
        progress.trial_finished(failed(1, Outcome.KILLED, None), Bracket(0, None))
    assert "(" not in capsys.readouterr().err


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt), SearchProgress():
        raise KeyboardInterrupt
