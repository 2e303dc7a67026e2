"""Settings of the C library's allocator that make memory on the CPU reproducible from trial to trial.

They slow Python down by about 60 %, so only real trials on the CPU use them. The C runtime and oneDNN read them as the
worker process starts.
"""

from __future__ import annotations

import ctypes

HEAP_PAD_BYTES = 128 * 1024
"""Bytes of free heap that glibc keeps when it grows or trims. Free heap counts as used (`cpu.py`), and a large tensor
that happens to fit into it gets that memory twice. With 4 MiB, the largest batch of a small network under 32 MiB varied
from 1,699 to 1,835; with this value it is 1,943 to 1,959."""

_MMAP_THRESHOLD = 16384
_M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -2, -3, -8
"""From glibc's malloc.h."""

REPRODUCIBLE_MALLOC_ENV = {
    # glibc raises its mmap threshold as blocks are freed, after which freed batches stay in the heap. One arena and a
    # fixed, low threshold return every freed tensor to the system: with 64 KiB, the activations of one or two samples
    # left holes of 4 to 15 MiB in the heap; with 16 KiB, 2 to 3 MiB.
    "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD),
    "MALLOC_ARENA_MAX": "1",
    # Small objects come from a heap that grows in small steps. Python's arenas take 1 MiB at once.
    "MALLOC_TOP_PAD_": str(HEAP_PAD_BYTES),
    "PYTHONMALLOC": "malloc",
    # MKL caches packed copies of the matrices that it has multiplied.
    "MKL_DISABLE_FAST_MM": "1",
    # oneDNN caches a kernel for every shape: about 20 MiB per batch size for a ResNet-18.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}


def make_malloc_reproducible() -> None:
    """Set what can still be set in a process that started without these variables; only glibc can."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for parameter, value in (
            (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD),
            (_M_ARENA_MAX, 1),
            (_M_TOP_PAD, HEAP_PAD_BYTES),
        ):
            mallopt(parameter, value)
