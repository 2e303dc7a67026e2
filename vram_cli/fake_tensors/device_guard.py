"""A device guard for CUDA in a PyTorch that was built without CUDA.

PyTorch's autograd asks the guard of a tensor's device for a stream, even for a fake tensor, and aborts the process if
no guard is registered. FakeTensorMode replaces a guard that finds no GPU by one that does nothing, but registers none
if the build has no guard at all: pytorch#160532 did, and its reland, pytorch#163187, left that out.
"""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from pathlib import Path

import torch

from vram_cli.errors import MachineError

_CUDA = 1
"""The value of c10::DeviceType (torch/headeronly/core/DeviceType.h); saved files contain it, so it never changes."""

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
_REGISTRAR = "_ZN3c104impl24DeviceGuardImplRegistrarC1ENS_10DeviceTypeEPKNS0_24DeviceGuardImplInterfaceE"
"""Symbols of c10/core/impl/DeviceGuardImplInterface.h as GCC and Clang mangle them; MSVC mangles differently."""

_METHODS = 64
"""More virtual methods than a guard has."""


@cache
def ensure_device_guard() -> None:
    """Make PyTorch use its guard that does nothing, even if it was built without CUDA.

    Raises:
        MachineError: the registry of guards cannot be found in this build of PyTorch.
    """
    if torch.backends.cuda.is_built():
        return
    guarded = False
    with contextlib.suppress(OSError, AttributeError, ValueError, StopIteration):  # the library or a symbol is missing
        guarded = _guarded()
    if not guarded:
        raise MachineError(
            f"PyTorch {torch.__version__} was built without CUDA, and fake tensors of a GPU would end its process",
            "install a build with CUDA, which predicts without a GPU too: "
            "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu130",
        )


def _guarded() -> bool:
    """Register a guard that reports no GPU, which PyTorch then replaces by one that does nothing.

    Registered as by C10_REGISTER_GUARD_IMPL in C++. PyTorch asks the guard only for its number of GPUs
    (ensureCUDADeviceGuardSet); every method returns 0.
    """
    folder = Path(torch.__file__).parent / "lib"
    c10 = ctypes.CDLL(str(next(path for path in folder.iterdir() if path.name in ("libc10.so", "libc10.dylib"))))
    guards = (ctypes.c_void_p * (_CUDA + 1)).in_dll(c10, _REGISTRY)
    if guards[_CUDA] is not None:
        return True
    register = getattr(c10, _REGISTRAR)
    register.argtypes, register.restype = (ctypes.c_void_p, ctypes.c_int8, ctypes.c_void_p), None
    registrar = ctypes.create_string_buffer(8)  # an object without members
    answer = ctypes.CFUNCTYPE(ctypes.c_int8)(lambda: 0)
    methods = (ctypes.c_void_p * _METHODS)(*[ctypes.cast(answer, ctypes.c_void_p).value] * _METHODS)
    guard = ctypes.c_void_p(ctypes.addressof(methods))  # an object is a pointer to its methods
    register(registrar, _CUDA, ctypes.addressof(guard))
    torch._C._ensureCUDADeviceGuardSet()
    if guards[_CUDA] == ctypes.addressof(guard):
        register(registrar, _CUDA, None)
    return guards[_CUDA] is not None
