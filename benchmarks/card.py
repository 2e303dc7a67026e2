"""Facts of this machine's GPU, as its runtime, driver and cuDNN report them: the ground truth of the virtual GPU.

    python -m benchmarks.card OUT.json

Device properties and attributes, how `cudaMalloc` rounds, what the context and the libraries take, cuDNN's description
of the device, and workspaces of batch norm and recurrent networks for many shapes. Run it on a GPU that is idle.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
RNN_CASES = 4000


def main() -> None:
    """Ask everything, and write what was answered."""
    facts: dict[str, Any] = {}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            facts[name] = question()
        except Exception as error:  # noqa: BLE001 - the failure is the answer
            facts[name] = f"{type(error).__name__}: {error}"[:300]
        Path(sys.argv[1]).write_text(json.dumps(facts) + "\n", encoding="utf-8")

    torch.cuda.is_available()
    cudart = ctypes.CDLL(library("cudart"))
    ask("versions", lambda: versions(cudart))
    ask("nvidia-smi, before the context", nvidia_smi)
    ask("memory after", lambda: memory_after(cudart))
    ask("nvidia-smi, after", nvidia_smi)
    ask("properties", lambda: properties(cudart))
    ask("attributes", lambda: attributes(cudart))
    ask("limits", lambda: limits(cudart))
    ask("cudaMalloc", lambda: rounding(cudart))
    ask("granularity", granularity)
    ask("full", lambda: fill(cudart))
    cudnn = ctypes.CDLL(library("cudnn.so"))
    handle = ctypes.c_void_p()
    cudnn.cudnnCreate(ctypes.byref(handle))
    ask("cudnn device", lambda: cudnn_device(cudnn, handle))
    ask("batch norm", lambda: batch_norms(cudnn, handle))
    ask("rnn", lambda: recurrences(cudnn, handle))


def library(name: str) -> str:
    """Return the path of a library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f"lib{name}" in line:
            return line.split()[-1]
    raise OSError(f"lib{name} is not loaded")


def versions(cudart: ctypes.CDLL) -> dict[str, Any]:
    """Return versions of torch, CUDA, cuDNN, cuBLAS and NCCL."""
    driver, runtime = ctypes.c_int(), ctypes.c_int()
    cudart.cudaDriverGetVersion(ctypes.byref(driver))
    cudart.cudaRuntimeGetVersion(ctypes.byref(runtime))
    return {
        "torch": torch.__version__,
        "driver": driver.value,
        "runtime": runtime.value,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": torch.cuda.nccl.version(),
    }


def nvidia_smi() -> str:
    """Return the name, driver and used memory."""
    query = "--query-gpu=name,driver_version,memory.total,memory.reserved,memory.used,clocks.max.sm,clocks.max.mem"
    return subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, check=True).stdout


def memory_after(cudart: ctypes.CDLL) -> dict[str, int]:
    """Return bytes in use that PyTorch's allocator does not hold, after each of several first uses."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    used: dict[str, int] = {}

    def note(stage: str) -> None:
        torch.cuda.synchronize() if torch.cuda.is_initialized() else None
        cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        reserved = torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0
        used[stage] = total.value - free.value - reserved

    cudart.cudaFree(None)
    note("context")
    used["total"] = total.value
    x = torch.ones(256, 256, device="cuda")
    note("one kernel")
    y = x @ x
    note("cublas")
    torch.nn.functional.linear(x, x, x[0])
    note("cublasLt")
    (x.half() @ x.half()).sum()
    note("half")
    image = torch.ones(8, 3, 64, 64, device="cuda", requires_grad=True)
    weight = torch.ones(8, 3, 3, 3, device="cuda", requires_grad=True)
    torch.nn.functional.conv2d(image, weight).sum().backward()
    note("cudnn")
    torch.linalg.svd(y)
    note("cusolver")
    torch.fft.fft(x)
    note("cufft")
    torch.sort(x.flatten())
    torch.randn(10, device="cuda")
    note("sort, random")
    with torch.autocast("cuda", torch.bfloat16):
        q = torch.ones(2, 4, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    note("attention")
    torch.cuda.empty_cache()
    note("emptied")
    return used


def properties(cudart: ctypes.CDLL) -> dict[str, Any]:
    """Return the bytes of cudaDeviceProp, and what torch reads in them."""
    buffer = (ctypes.c_ubyte * 4096)()
    name = "cudaGetDeviceProperties_v2" if hasattr(cudart, "cudaGetDeviceProperties_v2") else "cudaGetDeviceProperties"
    status = getattr(cudart, name)(buffer, 0)
    read = torch.cuda.get_device_properties(0)
    fields = {key: str(getattr(read, key)) for key in dir(read) if not key.startswith("_")}
    return {"function": name, "status": status, "hex": bytes(buffer).rstrip(b"\0").hex(), "torch": fields}


def attributes(cudart: ctypes.CDLL) -> dict[int, int]:
    """Return the values of cudaDeviceGetAttribute by number, those that have one."""
    value, result = ctypes.c_int(), {}
    for number in range(1, 200):
        if cudart.cudaDeviceGetAttribute(ctypes.byref(value), number, 0) == 0:
            result[number] = value.value
    cudart.cudaGetLastError()
    return result


def limits(cudart: ctypes.CDLL) -> dict[str, Any]:
    """Return cudaDeviceGetLimit by number and the range of stream priorities."""
    value, result = ctypes.c_size_t(), {}
    for number in range(8):
        if cudart.cudaDeviceGetLimit(ctypes.byref(value), number) == 0:
            result[str(number)] = value.value
    least, greatest = ctypes.c_int(), ctypes.c_int()
    cudart.cudaDeviceGetStreamPriorityRange(ctypes.byref(least), ctypes.byref(greatest))
    cudart.cudaGetLastError()
    return {**result, "priorities": [least.value, greatest.value]}


def rounding(cudart: ctypes.CDLL) -> list[list[int]]:
    """Return requested bytes and the memory they took, for single allocations and for four of a kind."""
    free, total, rows = ctypes.c_size_t(), ctypes.c_size_t(), []

    def now() -> int:
        cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        return free.value

    for size in (
        1,
        512,
        4096,
        65536,
        MIB,
        MIB + 1,
        2 * MIB,
        2 * MIB + 512,
        3 * MIB,
        20 * MIB,
        21 * MIB,
        1024 * MIB + 1,
    ):
        before, taken = now(), []
        pointers = [ctypes.c_void_p() for _ in range(4)]
        for pointer in pointers:
            cudart.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size))
            taken.append(before - now())
        for pointer in pointers:
            cudart.cudaFree(pointer)
        rows.append([size, *taken, before - now()])
    return rows


def granularity() -> list[int]:
    """Return the minimum and recommended granularity of cuMemCreate."""

    class Properties(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_int),
            ("handles", ctypes.c_int),
            ("location", ctypes.c_int),
            ("id", ctypes.c_int),
            ("rest", ctypes.c_byte * 64),
        ]

    driver, result, answer = ctypes.CDLL("libcuda.so.1"), ctypes.c_size_t(), []
    for which in (0, 1):
        wanted = Properties(1, 0, 1, 0)
        status = driver.cuMemGetAllocationGranularity(ctypes.byref(result), ctypes.byref(wanted), which)
        answer.append(-status if status else result.value)
    return answer


def fill(cudart: ctypes.CDLL) -> dict[str, int]:
    """Return how much cudaMalloc gives until it refuses, in pieces of 1 GiB, 20 MiB and 2 MiB."""
    torch.cuda.empty_cache()
    free, total, pointers, given = ctypes.c_size_t(), ctypes.c_size_t(), [], 0
    cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    result = {"total": total.value, "free": free.value}
    for size in (1024 * MIB, 20 * MIB, 2 * MIB):
        while True:
            pointer = ctypes.c_void_p()
            if cudart.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)):
                break
            pointers.append(pointer)
            given += size
        result[f"given in pieces down to {size}"] = given
    cudart.cudaGetLastError()
    cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    result["free at the end"] = free.value
    for pointer in pointers:
        cudart.cudaFree(pointer)
    return result


def cudnn_device(cudnn: ctypes.CDLL, handle: ctypes.c_void_p) -> Any:
    """Return cuDNN's JSON of the device (CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)."""
    descriptor, got = ctypes.c_void_p(), ctypes.c_int64()
    states = [cudnn.cudnnBackendCreateDescriptor(38, ctypes.byref(descriptor))]
    states.append(cudnn.cudnnBackendSetAttribute(descriptor, 2701, 0, ctypes.c_int64(1), ctypes.byref(handle)))
    states.append(cudnn.cudnnBackendFinalize(descriptor))
    text = ctypes.create_string_buffer(1 << 16)
    states.append(
        cudnn.cudnnBackendGetAttribute(descriptor, 2702, 24, ctypes.c_int64(1 << 16), ctypes.byref(got), text)
    )
    return json.loads(text.value) if text.value else {"states": states, "got": got.value}


def tensor(cudnn: ctypes.CDLL, layout: int, dtype: int, sizes: tuple[int, ...]) -> ctypes.c_void_p:
    """Return a tensor descriptor of four dimensions; layout 0 is NCHW, 1 NHWC."""
    descriptor = ctypes.c_void_p()
    cudnn.cudnnCreateTensorDescriptor(ctypes.byref(descriptor))
    status = cudnn.cudnnSetTensor4dDescriptor(descriptor, layout, dtype, *sizes)
    if status:
        raise RuntimeError(f"cudnnSetTensor4dDescriptor: {status}")
    return descriptor


def batch_norms(cudnn: ctypes.CDLL, handle: ctypes.c_void_p) -> list[list[int]]:
    """Return [mode, layout, dtype, n, c, h, forward, backward, reserve] in bytes; a negative value is a status."""
    rows = []
    shapes = itertools.product((1, 2, 8, 32, 64, 100, 256, 1024), (3, 16, 64, 256, 512, 2048), (1, 7, 14, 28, 56, 112))
    for (n, c, h), layout, dtype in itertools.product(shapes, (0, 1), (0, 2, 9)):
        if n * c * h * h > 1 << 31:
            continue
        x = tensor(cudnn, layout, dtype, (n, c, h, h))
        parameters = ctypes.c_void_p()
        cudnn.cudnnCreateTensorDescriptor(ctypes.byref(parameters))
        for mode in (0, 1, 2):
            cudnn.cudnnDeriveBNTensorDescriptor(parameters, x, mode)
            sizes = []
            for name, arguments in (
                ("ForwardTrainingEx", (x, None, x, parameters, None)),
                ("BackwardEx", (x, None, x, None, x, parameters, None)),
            ):
                size = ctypes.c_size_t()
                ask = getattr(cudnn, f"cudnnGetBatchNormalization{name}WorkspaceSize")
                status = ask(handle, mode, 0, *arguments, ctypes.byref(size))
                sizes.append(-status if status else size.value)
            size = ctypes.c_size_t()
            status = cudnn.cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
                handle, mode, 0, None, x, ctypes.byref(size)
            )
            sizes.append(-status if status else size.value)
            rows.append([mode, layout, dtype, n, c, h, *sizes])
        cudnn.cudnnDestroyTensorDescriptor(x)
        cudnn.cudnnDestroyTensorDescriptor(parameters)
    return rows


def recurrences(cudnn: ctypes.CDLL, handle: ctypes.c_void_p) -> dict[str, Any]:
    """Return rows of random recurrent networks: their settings, then weight, work and reserve space in bytes."""
    draw = random.Random(0)
    states = ctypes.c_size_t()
    cudnn.cudnnDropoutGetStatesSize(handle, ctypes.byref(states))
    memory = torch.empty(states.value, dtype=torch.uint8, device="cuda")
    dropouts = {}
    for value in (0.0, 0.2):
        dropouts[value] = ctypes.c_void_p()
        cudnn.cudnnCreateDropoutDescriptor(ctypes.byref(dropouts[value]))
        cudnn.cudnnSetDropoutDescriptor(
            dropouts[value],
            handle,
            ctypes.c_float(value),
            ctypes.c_void_p(memory.data_ptr()),
            states,
            ctypes.c_ulonglong(0),
        )
    columns = [
        "cell",
        "both",
        "dtype",
        "math",
        "layers",
        "input",
        "hidden",
        "projection",
        "length",
        "batch",
        "dropout",
        "packed",
        "training",
    ]
    rows = []
    for _ in range(RNN_CASES):
        cell, both, dtype = draw.choice((0, 1, 2, 2, 2, 3, 3)), draw.choice((0, 1)), draw.choice((0, 0, 2, 9, 1))
        math = draw.choice((0, 1, 2, 3))
        layers, batch, length = (
            draw.choice((1, 1, 2, 3, 4)),
            draw.choice((1, 2, 7, 32, 64, 100, 128, 512)),
            draw.choice((1, 2, 7, 50, 100, 200, 513)),
        )
        inputs, hidden = (
            draw.choice((1, 10, 64, 100, 256, 512, 1024)),
            draw.choice((8, 10, 64, 100, 256, 512, 650, 1024, 2048)),
        )
        projection = draw.choice((hidden, hidden, hidden, max(1, hidden // 2))) if cell == 2 else hidden
        dropout, packed, training = draw.choice((0.0, 0.2)), draw.choice((0, 1)), draw.choice((0, 1, 1))
        rnn, data = ctypes.c_void_p(), ctypes.c_void_p()
        cudnn.cudnnCreateRNNDescriptor(ctypes.byref(rnn))
        cudnn.cudnnCreateRNNDataDescriptor(ctypes.byref(data))
        precision = {0: 0, 2: 0, 9: 0, 1: 1}[dtype]
        status = cudnn.cudnnSetRNNDescriptor_v8(
            rnn, 0, cell, 2, both, 0, dtype, precision, math, inputs, hidden, projection, layers, dropouts[dropout], 1
        )
        lengths = (ctypes.c_int * batch)(*[length] * batch)
        zero = ctypes.c_double(0)
        layout = 1 if packed else 0
        status2 = cudnn.cudnnSetRNNDataDescriptor(
            data, dtype, layout, length, batch, inputs, lengths, ctypes.byref(zero)
        )
        weights, work, reserve = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t()
        status3 = cudnn.cudnnGetRNNWeightSpaceSize(handle, rnn, ctypes.byref(weights))
        status4 = cudnn.cudnnGetRNNTempSpaceSizes(
            handle, rnn, training, data, ctypes.byref(work), ctypes.byref(reserve)
        )
        settings = [
            cell,
            both,
            dtype,
            math,
            layers,
            inputs,
            hidden,
            projection,
            length,
            batch,
            dropout,
            packed,
            training,
        ]
        rows.append([*settings, status or status2 or status3 or status4, weights.value, work.value, reserve.value])
        cudnn.cudnnDestroyRNNDescriptor(rnn)
        cudnn.cudnnDestroyRNNDataDescriptor(data)
    return {"dropout states": states.value, "columns": [*columns, "status", "weights", "work", "reserve"], "rows": rows}


if __name__ == "__main__":
    main()
