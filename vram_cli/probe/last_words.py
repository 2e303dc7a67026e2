"""What a dead worker process wrote to standard error, and whether the user's code crashed it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_NUM_LINES = 12
_CRASH = "Fatal Python error"  # the first line that faulthandler writes
_FRAME = re.compile(r'^  File "(.+)", line \d+ in ')  # of faulthandler's traceback, the innermost frame first
_UNCAUGHT = re.compile(r"(?:terminate called|libc\+\+abi: terminating)(?:.* of (?:type )?'?([\w:]+)'?)?(?:: (.+))?")
"""How libc++ and libstdc++ report a C++ exception that nothing caught; the latter gives its text on another line."""
_WHAT = re.compile(r"\s*what\(\):\s*(.+)")

_PACKAGE = Path(__file__).resolve().parents[1]


def summary(stderr: str) -> str:
    """Return one line: the C++ exception that ended the process, the head of a crash, else the last line written."""
    lines = stderr.splitlines()
    if uncaught := _uncaught(lines):
        return uncaught
    last = [line.strip() for line in tail(stderr)]
    return last[0] if last and last[0].startswith(_CRASH) else next(filter(None, reversed(last)), "")


def tail(stderr: str) -> list[str]:
    """Return the last lines; of a crash the first ones, which say where it happened."""
    lines = stderr.splitlines()
    crash = next((i for i, line in enumerate(lines) if line.startswith(_CRASH)), None)
    return lines[-_NUM_LINES:] if crash is None else lines[crash : crash + _NUM_LINES]


def crashed_in(stderr: str, folder: str) -> bool:
    """Return whether the Python code that ran as the process crashed lies in a folder.

    Python's own modules do not count. Always False for a C++ exception that nothing caught: it ends the process on
    behalf of the code that threw it, not of the line that happened to call.
    """
    lines = tail(stderr)
    if not folder or _uncaught(stderr.splitlines()) or not lines or not lines[0].startswith(_CRASH):
        return False
    files = [Path(match[1]) for line in lines if (match := _FRAME.match(line))]
    innermost = next((file for file in files if _is_library(file) or file.is_relative_to(folder)), None)
    return innermost is not None and not _is_library(innermost)


def _uncaught(lines: Sequence[str]) -> str:
    """Return type and text of the C++ exception that ended the process, "" if none did."""
    for i, line in enumerate(lines):
        if match := _UNCAUGHT.match(line):
            text = match[2] or next((said[1] for later in lines[i:] if (said := _WHAT.match(later))), "")
            return ": ".join(filter(None, (match[1], text))) or line
    return ""


def _is_library(file: Path) -> bool:
    """Return whether a file belongs to vram or was installed, even into an environment inside the user's folder."""
    return file.is_relative_to(_PACKAGE) or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)
