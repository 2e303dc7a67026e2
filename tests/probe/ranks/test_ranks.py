"""Runs `searches.py` and `bytes.py` in a process of their own, which they fork: this one may have used a fake GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_searches() -> None:
    files = ("tests/probe/ranks/searches.py", "tests/probe/ranks/bytes.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
