"""Errors for trainings that cannot be predicted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from vram_cli.errors import REAL_TRIALS, UnsupportedError

_NO_DRIVER = ("no nvidia driver", "cuda driver", "insufficientdriver", "hasprimarycontext", "not compiled with cuda")


def unsupported(feature: str, module: str = "", hint: str = "") -> UnsupportedError:
    """Return the error for a feature that only a real step can measure; `hint` is an alternative to real trials."""
    where = f" in {module}" if module else ""
    return UnsupportedError(f"{feature}{where} cannot be predicted", f"{hint} {REAL_TRIALS}".lstrip())


@contextlib.contextmanager
def translate_fake_errors() -> Iterator[None]:
    """Turn PyTorch's errors about operations on fake tensors into an `UnsupportedError` that names the operation."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise unsupported(f"{_name(error.func)}, whose result depends on values,") from error
    except UnsupportedOperatorException as error:
        raise unsupported(f"{_name(error.func)}, which has no kernel for fake tensors,") from error
    except (RuntimeError, AssertionError) as error:
        if any(text in str(error).lower() for text in _NO_DRIVER):
            raise unsupported("an operation that queries the GPU itself") from error
        raise


def _name(operation: object) -> str:
    return str(operation).removesuffix(".default")


_HOST_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
"""Texts of DefaultCPUAllocator (on Windows as well), ENOMEM and the C++ runtime."""


def is_out_of_host_memory(error: Exception) -> bool:
    """Return whether an exception in a prediction means that the computer ran out of RAM."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _HOST_MEMORY)
