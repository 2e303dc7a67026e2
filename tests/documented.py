"""When an output that a page shows is today's: to the letter, or, where figures are another machine's, in its words."""

from __future__ import annotations

import re
from importlib.metadata import version

TORCH = "2.14"
"""The PyTorch whose predictions the pages show; others take other workspaces, and so have other figures."""


def lasting(output: str) -> list[str]:
    """Return the words of an output that are the same for other figures, on every machine."""
    output = re.sub(r"^  device .*\n(?: {11}.*\n)*", "", output, flags=re.MULTILINE)
    output = re.sub(r"\S*\.\.\.|[▏▎▍▌▋▊▉█]+|\b(?:[KMG]i)?B\b", "", output)
    return re.sub(r"(?:\d+ min )?\d[\d.,]*", "#", output).split()


def agree(page: str, now: str, *, measured: bool = False) -> bool:
    """Whether a page shows what is printed now."""
    if measured or not version("torch").startswith(f"{TORCH}."):
        return lasting(page) == lasting(now)
    return page == now
