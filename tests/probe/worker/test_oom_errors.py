"""Classification of out-of-memory errors, including those that other projects missed, and of similar errors."""

from __future__ import annotations

import pytest
import torch

from vram_cli.probe.worker.oom_errors import classify, describe, requested_bytes
from vram_cli.records import Outcome

CUDA_OOM = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.69 GiB of which 1 GiB is free"
)
CPU_OOM = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "627200000 bytes. Error code 12 (Cannot allocate memory)"
)

OUT_OF_MEMORY = [
    torch.OutOfMemoryError(CUDA_OOM),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB"),  # lighteval#812
    torch.OutOfMemoryError("XPU out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError(CUDA_OOM),  # before torch 1.13, and from extensions
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),  # composer#3397, accelerate
    torch.AcceleratorError("CUDA error: out of memory"),  # a class of its own, Wan2GP#1083
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),  # pytorch#81620
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("!handles_.at(i) INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:391"),  # torch-max-mem#45
]

KERNEL_LIMIT = [
    RuntimeError("CUDA error: invalid configuration argument"),  # pytorch#142228
    RuntimeError("nonzero is not supported for tensors with more than INT_MAX elements"),
    RuntimeError("Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true"),
    RuntimeError("integer out of range"),
    RuntimeError(
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."
    ),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),  # pytorch#85005
]

USER_ERRORS = [
    ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 512, 1, 1])"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x784 and 3072x128)"),
    RuntimeError("Given input size: (128x0x0). Calculated output size: (128x0x0). Output size is too small"),
    KeyError("out of memory"),
    ZeroDivisionError("division by zero"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:40])
def test_out_of_memory_errors(error: Exception) -> None:
    assert classify(error, "cuda") is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize("error", KERNEL_LIMIT, ids=lambda error: str(error)[:40])
def test_kernel_limits(error: Exception) -> None:
    assert classify(error, "cuda") is Outcome.KERNEL_LIMIT


@pytest.mark.parametrize("error", USER_ERRORS, ids=lambda error: str(error)[:40])
@pytest.mark.parametrize("device_type", ["cuda", "cpu"])
def test_user_errors(error: Exception, device_type: str) -> None:
    assert classify(error, device_type) is Outcome.ERROR


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError(CPU_OOM), RuntimeError("std::bad_alloc"), OSError(12, "Cannot allocate memory")],
)
def test_host_memory_is_device_memory_on_the_cpu(error: Exception) -> None:
    assert classify(error, "cpu") is Outcome.OUT_OF_MEMORY
    assert classify(error, "cuda") is Outcome.HOST_MEMORY


@pytest.mark.parametrize(
    ("text", "size"),
    [(CPU_OOM, 627200000), (CUDA_OOM, int(2.5 * 1024**3)), ("Tried to allocate 20.00 MiB", 20 * 1024**2), ("no", None)],
)
def test_requested_bytes(text: str, size: int | None) -> None:
    assert requested_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (f"{CUDA_OOM}. Of the allocated memory 7.36 GiB is allocated by PyTorch, and 202.20 MiB", 7.3549, 7.36),
        ("Of the allocated memory 512.00 MiB is allocated by PyTorch", 0.4999, 0.5),
        ("Of the allocated memory 0 bytes is allocated by PyTorch", 0, 0),
    ],
)
def test_held_bytes_are_a_lower_bound(text: str, least: float, most: float) -> None:
    failure = describe(torch.OutOfMemoryError(text), "cuda")
    assert failure.held_bytes is not None
    assert least <= failure.held_bytes / 1024**3 <= most


def test_message_without_held_bytes() -> None:
    assert describe(torch.OutOfMemoryError(CUDA_OOM), "cuda").held_bytes is None


def test_cuda_error_poisons_the_process() -> None:
    assert describe(torch.AcceleratorError("CUDA error: out of memory"), "cuda").poisoned
    assert describe(RuntimeError("CUDA error: device-side assert triggered"), "cuda").poisoned
    assert not describe(torch.OutOfMemoryError(CUDA_OOM), "cuda").poisoned
    assert not describe(RuntimeError(CPU_OOM), "cpu").poisoned
    assert describe(RuntimeError("could not create a primitive"), "cpu").poisoned


def test_message_is_one_line_with_the_exception_name() -> None:
    failure = describe(RuntimeError("first line\nsecond line"), "cpu")
    assert failure.message == "RuntimeError: first line"
    assert describe(MemoryError(), "cpu").message == "MemoryError"
    assert describe(RuntimeError(CPU_OOM), "cpu").message.startswith(
        "RuntimeError: DefaultCPUAllocator: can't allocate"
    )


def test_failure_holds_no_reference_to_the_exception() -> None:
    import gc
    import weakref

    class Tensor:
        pass

    def fail() -> tuple[object, weakref.ref[Tensor]]:
        tensor = Tensor()
        reference = weakref.ref(tensor)
        try:
            raise RuntimeError("with a frame that holds a tensor")
        except RuntimeError as error:
            failure = describe(error, "cpu")
        return failure, reference

    failure, reference = fail()
    gc.collect()
    assert reference() is None
    assert "with a frame" in failure.traceback  # type: ignore[attr-defined]
