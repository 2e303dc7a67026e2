"""Classification of exceptions: the types and texts of all out-of-memory errors.

Types are checked first, then texts. The texts are those of PyTorch, CUDA, ROCm, oneDNN and the C++ runtime; a comment
names the issue that reported one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from vram_cli.records import Outcome
from vram_cli.workload import error_summary, text_of, traceback_of
from vram_cli.workload.user_code import name_and_text

_DEVICE_MEMORY = (
    "out of memory",  # CUDA, HIP and XPU alike; "CUDA error: out of memory" is an AcceleratorError, composer#3397
    "cublas_status_alloc_failed",
    "hipblas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error",  # cuDNN, if its workspace does not fit, pytorch#81620
    "miopenstatusallocfailed",
    "handles_.at(i) internal assert failed",  # cuBLAS, close to the limit, torch-max-mem#45
    "unable to find an engine to execute",  # every cuDNN plan failed for lack of workspace
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
    "when the batch size exceeds",  # attention.cu: with dropout, efficient attention takes 65,535 rows at most
    "canuse32bitindexmath",
    "integer out of range",
    "overflow",
    "cudnn_status_not_supported",
    "cudnn_status_bad_param",
    "cudnn_status_not_initialized",
    "invalid buffer size",
    "too many resources requested for launch",
    "an illegal memory access",  # 32-bit offsets that wrapped at a large size, pytorch#85005
    "storage size calculation overflowed",
)
_POISON = (
    "CUDA error",
    "HIP error",
    "could not create a primitive",  # oneDNN 3.12 then creates no other primitive, not even for one sample
)
_REQUESTED = (
    re.compile(r"you tried to allocate (\d+) bytes"),
    re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMG]i?B)"),
)
_HELD = re.compile(r"(?:MPS allocated: )?([\d.]+) (bytes|[KMG]i?B)(?: is allocated by PyTorch|, other allocations)")
_HALF_A_DIGIT = 0.005
"""PyTorch prints sizes with two decimals (format_size of c10/cuda/CUDACachingAllocator.cpp)."""
_FACTORS = {"bytes": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
"""PyTorch's units are powers of 1024; for mps it calls them KB, MB and GB up to 2.9 (MPSAllocator.h)."""


@dataclass(frozen=True)
class Failure:
    """A description of an exception, without a reference to it: its traceback would keep tensors alive."""

    outcome: Outcome
    message: str
    traceback: str
    requested_bytes: int | None
    held_bytes: int | None
    """At least this many bytes were allocated as it failed; None if unknown."""
    poisoned: bool
    """Whether the process should not run another trial."""


def describe(error: Exception, device_type: str) -> Failure:
    """Return the description of an exception that was raised in a trial."""
    text, outcome = text_of(error), classify(error, device_type)
    return Failure(
        outcome=outcome,
        # Memory, or a limit of a kernel, is no fault of the code in which it shows.
        message=error_summary(error) if outcome is Outcome.ERROR else name_and_text(error),
        traceback=traceback_of(error),
        requested_bytes=requested_bytes(text),
        held_bytes=held_bytes(text),
        poisoned=isinstance(error, torch.AcceleratorError) or any(words in text for words in _POISON),
    )


def classify(error: Exception, device_type: str) -> Outcome:
    """Return the outcome for an exception; `ERROR` if it is unrelated to the batch size."""
    host = Outcome.OUT_OF_MEMORY if device_type == "cpu" else Outcome.HOST_MEMORY
    if isinstance(error, torch.OutOfMemoryError):
        return Outcome.OUT_OF_MEMORY
    if isinstance(error, MemoryError):
        return host
    if not isinstance(error, (RuntimeError, OSError)):
        return Outcome.ERROR
    text = text_of(error).lower()
    rules = ((_HOST_MEMORY, host), (_DEVICE_MEMORY, Outcome.OUT_OF_MEMORY), (_KERNEL_LIMIT, Outcome.KERNEL_LIMIT))
    matches = (outcome for words, outcome in rules if any(word in text for word in words))
    return next(matches, Outcome.ERROR)


def requested_bytes(text: str) -> int | None:
    """Return the bytes that the failed allocation requested; None if the message lacks them."""
    for pattern in _REQUESTED:
        match = pattern.search(text)
        if match:
            unit = match.group(2) if pattern.groups == 2 else "bytes"
            return int(float(match.group(1)) * _factor(unit))
    return None


def held_bytes(text: str) -> int | None:
    """Return at least how many bytes were allocated as an allocation failed; None if the message lacks them."""
    match = _HELD.search(text)
    return max(int((float(match.group(1)) - _HALF_A_DIGIT) * _factor(match.group(2))), 0) if match else None


def _factor(unit: str) -> int:
    return _FACTORS[unit if unit == "bytes" else unit[0]]
