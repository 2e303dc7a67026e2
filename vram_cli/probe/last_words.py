"""The standard error of a worker process that has ended: the cause, and whether the user's code crashed it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_NUM_LINES = 12
_NOISE = "Could not load symbol cu"
"""cuDNN writes lines of this for each plan that it would build with a driver; on the virtual GPU there is none."""
_CRASH = "Fatal Python error"  # the first line that faulthandler writes
_FRAME = re.compile(r'^  File "(.+)", line \d+ in ')  # in faulthandler's traceback, innermost frame first
_UNCAUGHT = re.compile(r"(?:terminate called|libc\+\+abi: terminating)(?:.* of (?:type )?'?([\w:]+)'?)?(?:: (.+))?")
"""The report of libc++ or libstdc++ on an uncaught C++ exception; libstdc++ prints its text on another line."""
_WHAT = re.compile(r"\s*what\(\):\s*(.+)")

_PACKAGE = Path(__file__).resolve().parents[1]


def summary(stderr: str) -> str:
    """Return one line: the uncaught C++ exception, the first line of a crash report, or else the last line."""
    if exception := _uncaught_exception(stderr.splitlines()):
        return exception
    lines = [line.strip() for line in tail(stderr)]
    return lines[0] if lines and lines[0].startswith(_CRASH) else next(filter(None, reversed(lines)), "")


def tail(stderr: str) -> list[str]:
    """Return the last lines, or the first lines of a crash report, which have its location."""
    lines = [line for line in stderr.splitlines() if not line.startswith(_NOISE)]
    crash = next((i for i, line in enumerate(lines) if line.startswith(_CRASH)), None)
    return lines[-_NUM_LINES:] if crash is None else lines[crash : crash + _NUM_LINES]


def crashed_in(stderr: str, folder: str) -> bool:
    """Return whether the process crashed while running Python code from a folder.

    Python's own modules do not count. Always False for an uncaught C++ exception: the code that threw it is at fault,
    not the Python line that was running.
    """
    lines = tail(stderr)
    if not folder or _uncaught_exception(stderr.splitlines()) or not lines or not lines[0].startswith(_CRASH):
        return False
    files = [Path(match[1]) for line in lines if (match := _FRAME.match(line))]
    innermost = next((file for file in files if _is_library(file) or file.is_relative_to(folder)), None)
    return innermost is not None and not _is_library(innermost)


def _uncaught_exception(lines: Sequence[str]) -> str:
    """Return the type and text of the uncaught C++ exception, or "" if there is none."""
    for i, line in enumerate(lines):
        if match := _UNCAUGHT.match(line):
            text = match[2] or next((what[1] for later in lines[i:] if (what := _WHAT.match(later))), "")
            return ": ".join(filter(None, (match[1], text))) or line
    return ""


def _is_library(file: Path) -> bool:
    """Return whether a file belongs to vram or to an installed package, even inside the user's folder."""
    return file.is_relative_to(_PACKAGE) or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
