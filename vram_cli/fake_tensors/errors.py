"""What a prediction refuses to guess about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from vram_cli.errors import ConfigError

_NO_DRIVER = ("no nvidia driver", "cuda driver", "insufficientdriver", "hasprimarycontext", "not compiled with cuda")


class UnsupportedError(ConfigError):
    """The training step does something whose memory a prediction cannot know."""


def unsupported(what: str, module: str = "", hint: str = "") -> UnsupportedError:
    """Return the error for something that only a real step can answer; `hint` is what may be done before that."""
    where = f" in {module}" if module else ""
    way_out = "run real trials: on a GPU, or with --device cpu and a --memory-limit"
    return UnsupportedError(f"{what}{where} cannot be predicted", f"{hint} {way_out}".lstrip())


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn what fakes say of an operation that they cannot stand for into an `UnsupportedError` that names it."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise unsupported(f"{_name(error.func)}, whose result depends on values,") from error
    except UnsupportedOperatorException as error:
        raise unsupported(f"{_name(error.func)}, which has no kernel for fakes,") from error
    except (RuntimeError, AssertionError) as error:
        if any(words in str(error).lower() for words in _NO_DRIVER):
            raise unsupported("an operation that asks the GPU itself") from error
        raise


def _name(operation: object) -> str:
    return str(operation).removesuffix(".default")


_HOST_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
"""Texts of DefaultCPUAllocator (on Windows as well), ENOMEM and the C++ runtime."""


def is_out_of_host_memory(error: Exception) -> bool:
    """Return whether an exception in a prediction means that the computer ran out of RAM."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _HOST_MEMORY)
