"""Errors for trainings that cannot be predicted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from vram_cli.errors import REAL_TRIALS, UnsupportedError
from vram_cli.user_lines import user_line, user_line_in

_NO_DRIVER = ("no nvidia driver", "cuda driver", "insufficientdriver", "hasprimarycontext", "not compiled with cuda")


def unsupported(feature: str, module: str = "", hint: str = "", line: str = "") -> UnsupportedError:
    """Return the error for a feature that only a real step can measure.

    Args:
        feature: the operation, in words.
        module: the module that is running, if known.
        hint: an alternative to real trials.
        line: the line of the user's code; that which is running, by default.
    """
    where, line = f" in {module}" if module else "", line or user_line(sys._getframe(1))
    at = f" ({line})" if line else ""
    return UnsupportedError(f"{feature}{where} cannot be predicted{at}", f"{hint} {REAL_TRIALS}".lstrip())


@contextlib.contextmanager
def translate_fake_errors() -> Iterator[None]:
    """Turn PyTorch's errors about operations on fake tensors into an `UnsupportedError` that names the operation."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        line, _ = user_line_in(error.__traceback__)
        raise unsupported(f"{_name(error.func)}, whose result depends on values,", line=line) from error
    except UnsupportedOperatorException as error:
        line, _ = user_line_in(error.__traceback__)
        raise unsupported(f"{_name(error.func)}, which has no kernel for fake tensors,", line=line) from error
    except (RuntimeError, AssertionError) as error:
        if any(text in str(error).lower() for text in _NO_DRIVER):
            line, called = user_line_in(error.__traceback__)
            raise unsupported(f"{called or 'an operation'}, which asks the GPU itself,", line=line) from error
        raise


def _name(operation: object) -> str:
    return str(operation).removesuffix(".default")


_HOST_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
"""Texts of DefaultCPUAllocator (on Windows as well), ENOMEM and the C++ runtime."""


def is_out_of_host_memory(error: Exception) -> bool:
    """Return whether an exception in a prediction means that the computer ran out of RAM."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _HOST_MEMORY)
