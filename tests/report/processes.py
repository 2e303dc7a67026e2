"""Run a few lines of Python in a process of its own, with pipes or on a terminal, and say what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vram_cli

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")

PRELUDE = """
from report.examples import *
from vram_cli.cli.output import document_of
from vram_cli.report.console import *
from vram_cli.report.formats.text import to_text

def answer(result):
    return to_text(document_of(result))

"""


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which nothing speaks for or against colours and widths but `variables`."""
    silent = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONIOENCODING")
    inherited = {name: value for name, value in os.environ.items() if name not in silent}
    path = os.pathsep.join([str(Path(vram_cli.__file__).parents[1]), str(Path(__file__).parents[1])])
    return {**inherited, "PYTHONPATH": path, "PYTHONUTF8": "1", "TERM": "xterm-256color", **variables}


def run_piped(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, encoding="utf-8", check=True, timeout=60
    )


def run_on_terminal(code: str, columns: int = 100, **variables: str) -> str:
    """Return what a terminal of that width is sent, by stdout and stderr together."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-c", PRELUDE + code]
    child = subprocess.Popen(command, env=environment(**variables), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 65536):
            sent += chunk
    except OSError:  # Linux says "input/output error" where the other end is closed
        pass
    os.close(ours)
    assert child.wait(60) == 0, sent.decode()
    return sent.decode().replace("\r\n", "\n")
