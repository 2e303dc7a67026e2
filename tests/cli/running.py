"""Runs `vram` as its user does: another process, some folder, a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    code: int
    stdout: str
    stderr: str


def vram(*arguments: str, folder: Path, env: Mapping[str, str] | None = None, timeout: float = 300) -> Answer:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "vram_cli", *arguments],
        cwd=folder,
        env={**(env or os.environ), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
