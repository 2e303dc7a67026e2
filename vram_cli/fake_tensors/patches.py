"""What has to be different in PyTorch while it runs a step for a GPU that is not there. All of it is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim.optimizer import _foreach_supported_types as _optimizer_types
from torch.utils._foreach_utils import _foreach_supported_types as _clipping_types

from vram_cli.fake_tensors import without_cuda
from vram_cli.fake_tensors.attention import Attention
from vram_cli.fake_tensors.autograd_engine import Engine
from vram_cli.fake_tensors.device_guard import ensure_device_guard
from vram_cli.fake_tensors.errors import unsupported


@contextlib.contextmanager
def simulated_cuda(engine: Engine, attention: Attention | None) -> Iterator[None]:
    """Run tensors as fakes, backward passes by our engine, and code that asks for a GPU as if there were one.

    Raises:
        MachineError: PyTorch was built without CUDA, and its device guard cannot be registered.
    """
    ensure_device_guard()
    with contextlib.ExitStack() as stack:
        for owner, name, value in _as_if_there_were_a_gpu():
            stack.enter_context(_replaced(owner, name, value))
        # Every call passes here, whatever name the function was imported under, and from C++ too.
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        if attention is not None:
            library.impl("scaled_dot_product_attention", attention, "AutogradCUDA")
        for name, key, operator in without_cuda.operators():
            library.impl(name, operator, key)
        for types in (_optimizer_types, _clipping_types):
            stack.enter_context(_appended(types, FakeTensor))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False))
        stack.enter_context(simulated_autograd(engine))
        yield


@contextlib.contextmanager
def simulated_autograd(engine: Engine) -> Iterator[None]:
    """Run backward passes by our engine."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in (*_own_engine(engine), *engine.hooks.patches()):
            stack.enter_context(_replaced(owner, name, value))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(engine.pack, engine.unpack))
        yield


def _own_engine(engine: Engine) -> list[tuple[Any, str, Any]]:
    """Return (owner, name, what stands there meanwhile)."""
    return [
        (torch.autograd, "backward", engine.backward),
        (torch.autograd, "grad", _no_grad_function),
        # Checkpointing recomputes once a backward pass: it tells them apart by this number.
        (torch._C, "_current_graph_task_id", lambda: engine.pass_id),
        (torch._C, "_will_engine_execute_node", engine.runs),
        (torch._C, "_current_autograd_node", lambda: engine.node),
        (torch.autograd.function.FunctionCtx, "set_materialize_grads", _set_materialize_grads),
    ]


def _as_if_there_were_a_gpu() -> list[tuple[Any, str, Any]]:
    return [
        *without_cuda.replacements(),
        # Autocast and the gradient scaler switch themselves off without a GPU.
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
    ]


def _set_materialize_grads(self: Any, value: bool) -> None:
    self.materialize_grads = value  # PyTorch's own attribute cannot be read
    self.materializes_grads = value


def _no_grad_function(*_: Any, **__: Any) -> Any:
    raise unsupported("torch.autograd.grad")


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:  # it is inherited
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextlib.contextmanager
def _appended(types: list[Any], kind: Any) -> Iterator[None]:
    types.append(kind)
    try:
        yield
    finally:
        types.remove(kind)
