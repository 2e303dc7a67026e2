"""Functions of CUDA that the virtual GPU does not answer: a training that calls one is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vram_cli.errors import UnsupportedError

_LINE = re.compile(r"^virtual GPU: (\w+) is not answered$", re.MULTILINE)
"""What `refuse` in native/refusals.c writes to standard error."""


def refusal(functions: Iterable[str]) -> UnsupportedError:
    """Return the error for a training that called these functions."""
    return UnsupportedError(
        f"{', '.join(functions)}: the training calls this function of CUDA, which the virtual GPU does not answer",
        "run real trials: on a GPU, or with --device cpu and a --memory-limit",
    )


def refused_functions(stderr: str) -> tuple[str, ...]:
    """Return the functions that refused, from the standard error of a process that ended."""
    return tuple(dict.fromkeys(_LINE.findall(stderr)))
