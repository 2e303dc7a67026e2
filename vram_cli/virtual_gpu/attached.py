"""The virtual GPU from inside: a worker process that its library was preloaded into."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from vram_cli.records import HostRead
from vram_cli.virtual_gpu.facts import VARIABLE
from vram_cli.virtual_gpu.library import LIBRARIES

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int)
_VALUES: dict[int, Literal["computed", "kept", "size", "most"]] = {1: "kept", 2: "computed", 3: "size", 4: "most"}
_PRELOAD = "LD_PRELOAD"


def is_attached() -> bool:
    """Return whether this process has the library."""
    return VARIABLE in os.environ and hasattr(ctypes.CDLL(None), "vgpu_refusals")


def detach_children() -> None:
    """Keep the library out of the programs that this process starts: compilers and tools are no PyTorch."""
    others = [path for path in os.environ.get(_PRELOAD, "").split() if Path(path) not in LIBRARIES]
    if others:
        os.environ[_PRELOAD] = " ".join(others)
    else:
        os.environ.pop(_PRELOAD, None)


class VirtualGpu:
    """The functions that the library adds to those of CUDA.

    Args:
        skipped: folders of code that reads for others: a read is told with the innermost line outside them.
    """

    def __init__(self, skipped: Sequence[Path]) -> None:
        self._library = ctypes.CDLL(None)
        self._library.vgpu_refusals.restype = self._library.vgpu_unknown_imports.restype = ctypes.c_char_p
        self._skipped = tuple(str(folder) + os.sep for folder in skipped)
        self._reads: Counter[tuple[str, int, int]] = Counter()
        self._callback: Callable[[int, int], None] = _CALLBACK(self._on_read)  # kept alive: the library calls it
        self._library.vgpu_on_read(self._callback)

    def refusals(self) -> tuple[str, ...]:
        """Return the functions that refused since the last call."""
        names = tuple(self._library.vgpu_refusals().decode().split())
        self._library.vgpu_forget_refusals()
        return names

    def unknown_imports(self) -> tuple[str, ...]:
        """Return the functions of CUDA that this PyTorch imports and the library neither answers nor refuses."""
        return tuple(self._library.vgpu_unknown_imports().decode().split())

    def reads(self) -> tuple[HostRead, ...]:
        """Return the reads of values that only a GPU computes, since the last call, by line and size."""
        counted, self._reads = self._reads, Counter()
        return tuple(
            HostRead(line=line, bytes=size, count=count, value=_VALUES[kind])
            for (line, size, kind), count in sorted(counted.items())
        )

    @contextmanager
    def assumed_size(self, size: int) -> Iterator[None]:
        """Answer reads of how many elements were found by `size`, the most that there can be."""
        self._library.vgpu_assume_size(ctypes.c_uint64(size))
        try:
            yield
        finally:
            self._library.vgpu_assume_size(ctypes.c_uint64(0))

    def _on_read(self, size: int, kind: int) -> None:
        self._reads[_user_line(sys._getframe(1), self._skipped), size, kind] += 1


def _user_line(frame: FrameType | None, skipped: tuple[str, ...]) -> str:
    """Return "file:line" of the innermost frame outside the skipped folders; "" if all are inside."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((*skipped, "<")):
            return f"{_short(Path(file))}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _short(file: Path) -> str:
    """Return the path inside its package, or the name of the user's own file."""
    parts = file.parts
    return "/".join(parts[parts.index("site-packages") + 1 :]) if "site-packages" in parts else file.name
