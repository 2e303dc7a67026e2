"""What PyTorch and callers of CUDA see on the virtual GPU: run by test_library.py with the library preloaded.

Each function below returns one observation, as JSON can hold it. They run in order, in one process, because importing
PyTorch takes seconds.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import sys
from collections.abc import Callable
from ctypes import byref, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import Any

import torch

from vram_cli.virtual_gpu.attached import VirtualGpu

MIB = 1024**2
TO_DEVICE, TO_HOST = 1, 2
CUDA = ctypes.CDLL(None)
GPU = VirtualGpu()
REQUESTS = (1, 4096, MIB, MIB + 1, 2 * MIB, 2 * MIB + 512, 3 * MIB, 20 * MIB, 21 * MIB, 1024 * MIB + 1)


class Dim3(ctypes.Structure):
    _fields_ = (("x", c_uint), ("y", c_uint), ("z", c_uint))


def used() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def error_of(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except RuntimeError as error:
        return [type(error).__name__, str(error)]
    return []


def set_allocator(settings: str) -> None:
    newer = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    (newer or torch.cuda.memory._set_allocator_settings)(settings)


def line_of_caller() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def reads() -> list[list[Any]]:
    return [[read.line, read.bytes, read.count, read.value] for read in GPU.reads()]


def memory_before_anything() -> list[int]:
    return list(torch.cuda.mem_get_info())


def properties() -> str:
    structure = ctypes.create_string_buffer(2048)
    assert CUDA.cudaGetDeviceProperties(structure, 0) == 0
    return structure.raw[:1008].hex()


def properties_in_pytorch() -> dict[str, str]:
    found = torch.cuda.get_device_properties(0)
    return {name: str(getattr(found, name)) for name in dir(found) if not name.startswith("_")}


def attributes() -> dict[str, int]:
    value, values = c_int(), {}
    for number in range(1, 134):
        assert CUDA.cudaDeviceGetAttribute(byref(value), number, 0) == 0
        values[str(number)] = value.value
    return values


def allocations() -> list[list[int]]:
    """Rows of the bytes of a request, the memory that is taken after each of four, and after all are freed."""
    rows = []
    for request in REQUESTS:
        before, pointers, row = used(), [c_void_p() for _ in range(4)], [request]
        for pointer in pointers:
            assert CUDA.cudaMalloc(byref(pointer), c_size_t(request)) == 0
            row.append(used() - before)
        assert len({pointer.value for pointer in pointers}) == len(pointers)
        for pointer in pointers:
            assert CUDA.cudaFree(pointer) == 0
        rows.append([*row, used() - before])
    return rows


def small_blocks_outlive_their_neighbours() -> list[int]:
    """Memory of 3 allocations that share blocks, as each is freed in the order in which they were made."""
    before, pointers, taken = used(), [c_void_p() for _ in range(3)], []
    for pointer in pointers:
        CUDA.cudaMalloc(byref(pointer), c_size_t(MIB))
    for pointer in pointers:
        taken.append(used() - before)
        assert CUDA.cudaFree(pointer) == 0
    return [*taken, used() - before]


def invalid_free() -> int:
    status: int = CUDA.cudaFree(c_void_p(4096))
    CUDA.cudaGetLastError()
    return status


def tensor_takes_memory() -> list[int]:
    before = used()
    tensor = torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
    during = used() - before
    del tensor
    torch.cuda.empty_cache()
    return [during, used() - before]


def full() -> dict[str, Any]:
    """A tensor that takes all memory but one byte too few for another block, and the error of one more block."""
    free = torch.cuda.mem_get_info()[0] // (2 * MIB) * 2 * MIB
    too_large = error_of(lambda: torch.empty(free + 1, dtype=torch.uint8, device="cuda"))
    torch.cuda.empty_cache()
    tensor = torch.empty(free, dtype=torch.uint8, device="cuda")
    left = torch.cuda.mem_get_info()[0]
    one_more = error_of(lambda: torch.empty(1, dtype=torch.uint8, device="cuda"))
    del tensor
    torch.cuda.empty_cache()
    after = torch.empty(1, device="cuda").numel()
    return {"free": free, "left": left, "too large": too_large, "one more": one_more, "after": after}


def expandable_segments() -> dict[str, Any]:
    torch.cuda.empty_cache()
    before = used()
    set_allocator("expandable_segments:True")
    tensors = [torch.empty(15 * MIB, dtype=torch.uint8, device="cuda") for _ in range(3)]
    segments = [segment for segment in torch.cuda.memory_snapshot() if segment["is_expandable"]]
    during = used() - before
    free = torch.cuda.mem_get_info()[0]
    error = error_of(lambda: torch.empty(free + 64 * MIB, dtype=torch.uint8, device="cuda"))
    del tensors
    torch.cuda.empty_cache()
    after = used() - before
    set_allocator("expandable_segments:False")
    return {"segments": len(segments), "during": during, "after": after, "error": error}


def pinned_memory() -> dict[str, Any]:
    pinned, plain = torch.arange(5.0, pin_memory=True), torch.arange(5.0)
    back = pinned.to("cuda", non_blocking=True).cpu().tolist()
    return {"pinned": pinned.is_pinned(), "plain": plain.is_pinned(), "back": back}


def events_and_streams() -> dict[str, Any]:
    start, end, stream = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True), torch.cuda.Stream()
    start.record()
    with torch.cuda.stream(stream):
        is_current = torch.cuda.current_stream() == stream
        stream.wait_event(start)
        torch.empty(10, device="cuda").fill_(1)
        end.record()
    end.synchronize()
    torch.cuda.synchronize()
    done = [start.query(), end.query(), stream.query()]
    return {"is current": is_current, "done": done, "milliseconds": start.elapsed_time(end)}


def copies_that_nothing_touched() -> dict[str, Any]:
    GPU.reads()
    kept = torch.tensor([1.0, 2.0, 3.0]).cuda()
    values = [kept.tolist(), torch.tensor(7).cuda().item(), torch.tensor(True).cuda().item(), kept.clone().tolist()]
    return {"values": values, "reads": reads()}


def computed_values() -> dict[str, Any]:
    torch.cuda.empty_cache()
    x = torch.empty(MIB, device="cuda")  # in a new segment, which nothing was copied to
    GPU.reads()
    values, line = [(x + 1).sum().item(), (x * 2)[:3].tolist()], line_of_caller()
    return {"values": values, "reads": reads(), "line": f"{Path(__file__).name}:{line}"}


def changed_in_place() -> dict[str, Any]:
    one, several = torch.tensor(5.0).cuda(), torch.tensor([5.0, 6.0, 7.0]).cuda()
    one.add_(1)
    several.add_(1)
    GPU.reads()
    return {"values": [one.item(), several.tolist()], "kinds": [read.value for read in GPU.reads()]}


def freed_memory() -> list[int]:
    """A value that was copied to memory, and what is read there after that memory was freed and allocated again."""
    pointer, value, found = c_void_p(), c_int(7), []
    for _ in range(2):
        CUDA.cudaMalloc(byref(pointer), c_size_t(2 * MIB))
        if not found:
            CUDA.cudaMemcpy(pointer, byref(value), c_size_t(4), TO_DEVICE)
        CUDA.cudaMemcpy(byref(value), pointer, c_size_t(4), TO_HOST)
        found.append(value.value)
        CUDA.cudaFree(pointer)
    return found


def booleans() -> dict[str, bool]:
    x = torch.ones(10, device="cuda")
    return {
        "isfinite all": bool(torch.isfinite(x).all()),
        "isfinite of a sum": bool(torch.isfinite(x.sum())),
        "isnan any": bool(torch.isnan(x).any()),
        "isinf any": bool(torch.isinf(x).any()),
        "all": bool((x > 0).all()),
        "any": bool((x > 0).any()),
        "equal": bool(x.sum() == 10),
    }


def sizes_that_depend_on_values() -> dict[str, Any]:
    x = torch.ones(10, device="cuda")
    GPU.reads()
    shapes = [list(torch.nonzero(x).shape), list(x[x > 0].shape), list(torch.unique(x).shape)]
    return {"shapes": shapes, "kinds": sorted({read.value for read in GPU.reads()})}


def kernels_compiled_at_runtime() -> list[list[int]]:
    """Run operators that PyTorch compiles by NVRTC, which asks the driver for undocumented tables."""
    x = torch.ones(3, 5, device="cuda")
    return [list(torch.prod(x, 1).shape), list(torch.lgamma(x).shape), list(torch.special.i0(x).shape)]


def launches() -> dict[str, Any]:
    def status(grid: Dim3, block: Dim3, shared: int = 0) -> list[int]:
        argument = (c_void_p * 1)()
        first = CUDA.cudaLaunchKernel(c_void_p(64), grid, block, argument, c_size_t(shared), None)
        return [first, CUDA.cudaGetLastError(), CUDA.cudaGetLastError()]

    CUDA.cudaGetErrorString.restype = ctypes.c_char_p
    images = torch.empty(65536, 1, 9, 9, device="cuda")  # one row of blocks each
    pool = torch.nn.functional.fractional_max_pool2d
    return {
        "largest": status(Dim3(2**31 - 1, 65535, 65535), Dim3(1024, 1, 1)),
        "grid y": status(Dim3(1, 65536, 1), Dim3(1, 1, 1)),
        "grid z": status(Dim3(1, 1, 65536), Dim3(1, 1, 1)),
        "empty grid": status(Dim3(0, 1, 1), Dim3(1, 1, 1)),
        "threads": status(Dim3(1, 1, 1), Dim3(1024, 2, 1)),
        "block z": status(Dim3(1, 1, 1), Dim3(1, 1, 65)),
        "most shared": status(Dim3(1, 1, 1), Dim3(1, 1, 1), 232448),
        "shared": status(Dim3(1, 1, 1), Dim3(1, 1, 1), 232449),
        "text": CUDA.cudaGetErrorString(9).decode(),
        "in pytorch": error_of(lambda: pool(images, 2, output_size=3)),
    }


def refusals() -> dict[str, Any]:
    """A function that is switched off, and one that nothing answers."""
    GPU.refusals()
    CUDA.vgpu_refuse(b"cudaEventCreateWithFlags")
    off = error_of(lambda: torch.cuda.Event().record())
    CUDA.vgpu_refuse(b"")
    names = GPU.refusals()
    on = error_of(lambda: torch.cuda.Event().record())
    status = CUDA.cublasSrotm_v2()
    return {
        "off": off,
        "names": names,
        "on": on,
        "status": status,
        "unanswered": GPU.refusals(),
        "then": GPU.refusals(),
    }


OBSERVATIONS: tuple[Callable[[], Any], ...] = (
    memory_before_anything, properties, properties_in_pytorch, attributes, allocations,
    small_blocks_outlive_their_neighbours, invalid_free, tensor_takes_memory, full, expandable_segments, pinned_memory,
    events_and_streams, copies_that_nothing_touched, computed_values, changed_in_place, freed_memory, booleans,
    sizes_that_depend_on_values, kernels_compiled_at_runtime, launches, refusals,
)  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps({observe.__name__: observe() for observe in OBSERVATIONS}) + "\n")
