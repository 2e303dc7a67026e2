"""The consoles: the answer goes to stdout, everything else to stderr; width and colour are decided here.

The answer is as wide as the terminal, or 80 columns without one; `COLUMNS` overrides both. `NO_COLOR` removes colours
and all other styles. An encoding without block characters gets plain ASCII drawings.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from functools import cache

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from vram_cli.errors import VramError, WorkloadError
from vram_cli.report.words import literal, shortened, spelled_line

MIN_WIDTH = 60
"""Anything narrower would cut numbers; a narrower terminal folds the lines instead."""

_MAX_MESSAGE, _MAX_TRACEBACK = 2_000, 20_000
"""Characters; exceptions of users may quote whole tensors."""


class Trimmed:
    """A drawing without the trailing spaces that Rich pads lines with, for pipes, diffs and READMEs."""

    def __init__(self, drawing: RenderableType) -> None:
        self._drawing = drawing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._drawing, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
            yield from line
            yield Segment.line()


def stdout_console(*, plain: bool = False) -> Console:
    """Return the console of answers; `plain` removes all styles, as `NO_COLOR` does."""
    _never_fail_to_encode(sys.stdout)
    width, height = shutil.get_terminal_size((80, 25))
    # With a height as well: without one, Rich ignores the width of a dumb terminal.
    return _console(stderr=False, plain=plain, width=max(width, MIN_WIDTH), height=height)


@cache
def stderr_console() -> Console:
    """Return the console of progress, warnings and errors: a single one, so that a live line and a warning share it."""
    _never_fail_to_encode(sys.stderr)
    return _console(stderr=True)


def print_answer(drawing: RenderableType, *, plain: bool = False) -> None:
    """Print an answer to stdout."""
    stdout_console(plain=plain).print(Trimmed(drawing))


def print_document(text: str) -> None:
    """Print text for a file or another program, such as Markdown: in UTF-8, never folded or styled."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)


def print_error(error: VramError) -> None:
    """Print an error and its hint to stderr, after the traceback if the user's own code raised."""
    if isinstance(error, WorkloadError) and error.traceback:
        _say(literal(shortened(error.traceback.rstrip(), _MAX_TRACEBACK)))
    _say(Text.assemble(("error: ", "bold red"), _line(error.message)))
    if error.hint:
        _say(Text.assemble(("hint: ", "bold"), _line(error.hint)))


def inform(text: str) -> None:
    """Print a remark to stderr."""
    _say(_line(text))


def warn(text: str) -> None:
    """Print a warning to stderr."""
    _say(Text.assemble(("warning: ", "yellow"), _line(text)))


def _line(text: str) -> Text:
    return Text(spelled_line(shortened(text, _MAX_MESSAGE)))


def _say(text: Text) -> None:
    # Not wrapped: a path or a command in a message must stay in one piece to be copied.
    stderr_console().print(text, soft_wrap=True)


def _console(*, stderr: bool, plain: bool = False, width: int | None = None, height: int | None = None) -> Console:
    styled = not plain and not os.environ.get("NO_COLOR")
    return Console(
        stderr=stderr,
        width=width,
        height=height,
        color_system="auto" if styled else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _never_fail_to_encode(stream: object) -> None:
    """Replace characters that the stream's encoding lacks by `?`, rather than fail."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
