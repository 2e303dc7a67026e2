"""The libraries of the virtual GPU: whether they can be used here, and the environment of a process that preloads them.

Nothing here loads them, or imports torch.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vram_cli.hardware.gpus import Gpu
from vram_cli.virtual_gpu.facts import VARIABLE, card_facts

LIBRARY_FOLDER = Path(__file__).with_name("lib")
LIBRARIES = tuple(LIBRARY_FOLDER / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
"""The libraries that are preloaded; programs look them up by these names."""

_OLDEST_OF_CUDA_13 = (7, 5)
"""CUDA 13.0 removed compute capabilities 5.0 to 7.2 (release notes, deprecated architectures)."""


def obstacle(gpu: Gpu | None = None) -> str:
    """Return why the virtual GPU cannot stand for a GPU in this environment; "" if it can."""
    if gpu is not None and gpu.vendor != "NVIDIA":
        return f"{gpu.product} has no CUDA"
    capability = gpu.compute_capability if gpu is not None else None
    if capability is not None and _cuda_of_torch() >= 13 and capability < _OLDEST_OF_CUDA_13:
        return "this PyTorch's CUDA has no code for compute capability {}.{}".format(*capability)
    return _obstacle_here()


@cache
def _cuda_of_torch() -> int:
    """Return the major version of the CUDA that PyTorch was built with; 0 if none."""
    found = re.search(r"^cuda\b.*=\s*'(\d+)", _torch_file("version.py"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def _torch_file(name: str) -> str:
    spec = find_spec("torch")
    path = Path(spec.origin).with_name(name) if spec and spec.origin else None
    return path.read_text(encoding="utf-8") if path and path.exists() else ""


@cache
def _obstacle_here() -> str:
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if not all(library.exists() for library in LIBRARIES):
        return "vram was installed without its libraries (no C compiler, or another processor)"
    spec = find_spec("torch")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / "lib" / "libtorch_cuda.so").exists():
        return "PyTorch was built without CUDA"
    return ""


def environment(gpu: Gpu, *, memory_bytes: int, context_bytes: int) -> dict[str, str]:
    """Return the environment variables that make a process see the GPU; sizes are in bytes.

    A GPU of this machine is not touched: the process never reaches its driver.
    """
    others = os.environ.get("LD_PRELOAD")
    return {
        "LD_PRELOAD": " ".join(filter(None, (*map(str, LIBRARIES), others))),
        VARIABLE: card_facts(gpu, memory_bytes=memory_bytes, context_bytes=context_bytes),
        "CUDA_VISIBLE_DEVICES": "0",
        "TRITON_LIBCUDA_PATH": str(LIBRARY_FOLDER),  # Triton compiles its launcher against libcuda
        # Processes that torch.compile starts would not have the libraries.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }


def machine_has_gpu() -> bool:
    """Return whether the driver of this machine reports a GPU. It is asked without a context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
