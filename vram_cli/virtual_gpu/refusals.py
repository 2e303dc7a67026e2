"""Functions of CUDA that the virtual GPU does not answer: a training that calls one is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vram_cli.errors import REAL_TRIALS, UnsupportedError
from vram_cli.records import HostRead

_LINE = re.compile(r"^virtual GPU: (\w+) is not answered$", re.MULTILINE)
"""What `refuse` in native/refusals.c writes to standard error."""


def refusal(functions: Iterable[str]) -> UnsupportedError:
    """Return the error for a training that called these functions."""
    return UnsupportedError(
        f"{', '.join(functions)}: the training calls this function of CUDA, which the virtual GPU does not answer",
        REAL_TRIALS,
    )


def unknown_sizes(reads: Iterable[HostRead]) -> list[str]:
    """Return the lines of reads on which the size of a tensor depends; "PyTorch" where the line is not known."""
    return list(dict.fromkeys(read.line or "PyTorch" for read in reads if read.value == "size"))


def size_from_values(lines: Iterable[str]) -> UnsupportedError:
    """Return the error for a training that makes tensors whose sizes depend on values."""
    return UnsupportedError(
        f"{', '.join(lines)}: the size of a tensor depends on values, which only a GPU computes "
        "(nonzero, a boolean mask, unique, nms)",
        REAL_TRIALS,
    )


def too_new(functions: Iterable[str]) -> UnsupportedError:
    """Return the error for a training that failed, perhaps because PyTorch called functions that the library lacks."""
    return UnsupportedError(
        f"the training fails on the virtual GPU, which lacks functions that this PyTorch calls: {', '.join(functions)}",
        "install a newer vram or an older PyTorch, or predict without it: --set device.engine=fake-tensors",
    )


def refused_functions(stderr: str) -> tuple[str, ...]:
    """Return the functions that refused, from the standard error of a process that ended."""
    return tuple(dict.fromkeys(_LINE.findall(stderr)))
