"""A device guard for CUDA in a PyTorch that was built without CUDA.

The autograd of PyTorch asks the guard of a tensor's device for a stream, also of a fake tensor, and ends the process
where there is none. FakeTensorMode puts a guard that does nothing in the place of one that finds no GPU, and nothing
where the build has none at all: pytorch#160532 did that too, and its reland, pytorch#163187, left it out.
"""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from pathlib import Path

import torch

from vram_cli.errors import MachineError

_CUDA = 1
"""The value of c10::DeviceType (torch/headeronly/core/DeviceType.h); it is stored in files, and so never changes."""

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
_REGISTRAR = "_ZN3c104impl24DeviceGuardImplRegistrarC1ENS_10DeviceTypeEPKNS0_24DeviceGuardImplInterfaceE"
"""As GCC and Clang name what c10/core/impl/DeviceGuardImplInterface.h exports; Microsoft's compiler names it otherwise.
"""

_METHODS = 64
"""More than a guard has."""


@cache
def ensure_device_guard() -> None:
    """Have PyTorch put its guard that does nothing in, also where it was built without CUDA.

    Raises:
        MachineError: this build of PyTorch does not let its guards be found.
    """
    if torch.backends.cuda.is_built():
        return
    guarded = False
    with contextlib.suppress(OSError, AttributeError, ValueError, StopIteration):  # whatever is not found
        guarded = _guarded()
    if not guarded:
        raise MachineError(
            f"PyTorch {torch.__version__} was built without CUDA, and fake tensors of a GPU would end its process",
            "install a build with CUDA, which predicts without a GPU too: "
            "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu130",
        )


def _guarded() -> bool:
    """Register a guard that knows of no GPU: in its place PyTorch puts one that does nothing, and keeps it.

    Registered as C10_REGISTER_GUARD_IMPL does it in C++. The one that goes is asked for the number of its GPUs alone
    (ensureCUDADeviceGuardSet), and answers everything with 0.
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
