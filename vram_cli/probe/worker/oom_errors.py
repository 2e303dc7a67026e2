"""Which exception is which outcome: the one place that knows the shapes of running out of memory.

Types are asked first and texts last. The texts are those that PyTorch, CUDA, ROCm, oneDNN and the C++ runtime use;
where a report taught one, it is named beside it.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

import torch

from vram_cli.records import Outcome
from vram_cli.workload import error_summary

_DEVICE_MEMORY = (
    "out of memory",  # CUDA, HIP and XPU alike; "CUDA error: out of memory" is an AcceleratorError, composer#3397
    "cublas_status_alloc_failed",
    "hipblas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error",  # what cuDNN says when its workspace does not fit, pytorch#81620
    "miopenstatusallocfailed",
    "handles_.at(i) internal assert failed",  # the caching allocator at the edge, torch-max-mem#45
    "unable to find an engine to execute",  # every cuDNN plan failed for want of workspace
)
_HOST_MEMORY = (
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory: you tried to allocate",  # DefaultCPUAllocator on Windows
    "cannot allocate memory",  # ENOMEM
    "bad_alloc",
    "could not create a memory",  # oneDNN
    "could not create a primitive",  # oneDNN: no room for its kernel or scratchpad
    "could not execute a primitive",  # oneDNN: scratchpad
)
_KERNEL_LIMIT = (
    "invalid configuration argument",  # a grid dimension above 65535, pytorch#142228
    "int_max",  # nonzero and others
    "32-bit index",
    "canuse32bitindexmath",
    "integer out of range",
    "overflow",
    "cudnn_status_not_supported",
    "cudnn_status_bad_param",
    "cudnn_status_not_initialized",
    "invalid buffer size",
    "too many resources requested for launch",
    "an illegal memory access",  # at a size above one that ran: 32-bit offsets that wrapped, pytorch#85005
    "storage size calculation overflowed",
)
_POISON = (
    "CUDA error",
    "HIP error",
    "could not create a primitive",  # oneDNN 3.12: from then on it makes none, not even for one sample
)
_REQUESTED = (
    re.compile(r"you tried to allocate (\d+) bytes"),
    re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMG]i?B)"),
)
_HELD = re.compile(r"(?:MPS allocated: )?([\d.]+) (bytes|[KMG]i?B)(?: is allocated by PyTorch|, other allocations)")
_HALF_A_DIGIT = 0.005
"""PyTorch says sizes with two decimals (format_size of c10/cuda/CUDACachingAllocator.cpp)."""
_FACTORS = {"bytes": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
"""PyTorch's units are powers of 1024; for mps it calls them KB, MB and GB up to 2.9 (MPSAllocator.h)."""


@dataclass(frozen=True)
class Failure:
    """An exception put into words; holds no reference to it, since a traceback pins the memory of its frames."""

    outcome: Outcome
    message: str
    traceback: str
    requested_bytes: int | None
    held_bytes: int | None
    """What was handed out as it failed, at least, where that is known."""
    poisoned: bool
    """Whether the process should not run another trial."""


def describe(error: Exception, device_type: str) -> Failure:
    """Say what an exception raised in a trial on a device means."""
    text = str(error)
    return Failure(
        outcome=classify(error, device_type),
        message=error_summary(error),
        traceback="".join(traceback.format_exception(error)),
        requested_bytes=requested_bytes(text),
        held_bytes=held_bytes(text),
        poisoned=isinstance(error, torch.AcceleratorError) or any(words in text for words in _POISON),
    )


def classify(error: Exception, device_type: str) -> Outcome:
    """Return the outcome that an exception stands for; `ERROR` where it has nothing to do with the batch's size."""
    host = Outcome.OUT_OF_MEMORY if device_type == "cpu" else Outcome.HOST_MEMORY
    if isinstance(error, torch.OutOfMemoryError):
        return Outcome.OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return host
    if not isinstance(error, (RuntimeError, OSError)):
        return Outcome.ERROR
    text = str(error).lower()
    rules = ((_HOST_MEMORY, host), (_DEVICE_MEMORY, Outcome.OUT_OF_MEMORY), (_KERNEL_LIMIT, Outcome.KERNEL_LIMIT))
    found = (outcome for words, outcome in rules if any(word in text for word in words))
    return next(found, Outcome.ERROR)


def requested_bytes(text: str) -> int | None:
    """Return what the failing allocation asked for, where the allocator's message says it."""
    for pattern in _REQUESTED:
        match = pattern.search(text)
        if match:
            unit = match.group(2) if pattern.groups == 2 else "bytes"
            return int(float(match.group(1)) * _factor(unit))
    return None


def held_bytes(text: str) -> int | None:
    """Return what was handed out as an allocation failed, at least, where the allocator's message says it."""
    match = _HELD.search(text)
    return max(int((float(match.group(1)) - _HALF_A_DIGIT) * _factor(match.group(2))), 0) if match else None


def _factor(unit: str) -> int:
    return _FACTORS[unit if unit == "bytes" else unit[0]]
