"""Comparison of an output on a page with the current one: exact, or only in words if the figures may differ."""

from __future__ import annotations

import re
from importlib.metadata import version

TORCH = "2.14"
"""The PyTorch of the predictions on the pages; other versions have other workspaces, and so other figures."""


def words_of(output: str) -> list[str]:
    """Return the words of an output, without figures, which are the same on every machine."""
    output = re.sub(r"^  device .*\n(?: {11}.*\n)*", "", output, flags=re.MULTILINE)
    output = re.sub(r"\S*\.\.\.|[▏▎▍▌▋▊▉█]+|\b(?:[KMG]i)?B\b", "", output)
    return re.sub(r"(?:\d+ min )?\d[\d.,]*", "#", output).split()


def agree(page: str, now: str, *, measured: bool = False) -> bool:
    """Return whether an output on a page agrees with the current one."""
    if measured or not version("torch").startswith(f"{TORCH}."):
        return words_of(page) == words_of(now)
    return page == now
