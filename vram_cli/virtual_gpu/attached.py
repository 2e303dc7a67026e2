"""The virtual GPU from inside: a worker process that its library was preloaded into."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vram_cli.records import HostRead
from vram_cli.user_lines import user_line
from vram_cli.virtual_gpu.facts import VARIABLE
from vram_cli.virtual_gpu.library import LIBRARIES

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int)
_REFUSAL_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
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
    """The functions that the library adds to those of CUDA."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.vgpu_refusals.restype = self._library.vgpu_unknown_imports.restype = ctypes.c_char_p
        self._reads: Counter[tuple[str, int, int]] = Counter()
        self._callback: Callable[[int, int], None] = _CALLBACK(self._on_read)  # kept alive: the library calls it
        self._library.vgpu_on_read(self._callback)
        self._lines: dict[str, str] = {}
        self._refusal_callback: Callable[[bytes], None] = _REFUSAL_CALLBACK(self._on_refusal)
        self._library.vgpu_on_refusal(self._refusal_callback)

    def refusals(self) -> tuple[str, ...]:
        """Return the functions that refused since the last call, each with the line of the user's code, if known."""
        names = self._library.vgpu_refusals().decode().split()
        self._library.vgpu_forget_refusals()
        lines, self._lines = self._lines, {}
        return tuple(f"{name} ({line})" if (line := lines.get(name)) else name for name in names)

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

    def _on_refusal(self, function: bytes) -> None:
        self._lines[function.decode()] = user_line(sys._getframe(1))

    def _on_read(self, size: int, kind: int) -> None:
        self._reads[user_line(sys._getframe(1)), size, kind] += 1
