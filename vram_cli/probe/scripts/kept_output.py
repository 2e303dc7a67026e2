"""Keep the end of what a script prints, to show it if the script ends before it has trained."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_BYTES = 4000


@contextmanager
def kept_output() -> Iterator[Callable[[], str]]:
    """Give a function that returns the end of what processes have printed that were started in the context."""
    with tempfile.TemporaryFile() as file:
        _flush()
        before = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in before:
            os.dup2(file.fileno(), descriptor)

        def end() -> bytes:
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), _BYTES, max(size - _BYTES, 0))

        try:
            yield lambda: end().decode(errors="replace")
        finally:
            _flush()
            for descriptor, original in before.items():
                os.dup2(original, descriptor)
                os.close(original)
            os.write(2, end())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
