"""Patches of PyTorch that let a step for an absent GPU run on fake tensors. All are undone afterwards."""

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
def simulated_cuda(engine: Engine, attention: Attention | None, capability: tuple[int, int] = (0, 0)) -> Iterator[None]:
    """Run with fake tensors, our backward engine, and PyTorch's checks answered as by a GPU of a compute capability.

    Raises:
        MachineError: PyTorch was built without CUDA, and its device guard cannot be registered.
    """
    ensure_device_guard()
    _forget_results_for_others(bfloat16=capability >= (8, 0))
    with contextlib.ExitStack() as stack:
        for owner, name, value in _gpu_patches(capability):
            stack.enter_context(_patch(owner, name, value))
        # The dispatcher sees every call, whatever name the function was imported under, and calls from C++.
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        if attention is not None:
            library.impl("scaled_dot_product_attention", attention, "AutogradCUDA")
        for name, key, operator in without_cuda.operators():
            library.impl(name, operator, key)
        for types in (_optimizer_types, _clipping_types):
            stack.enter_context(_append(types, FakeTensor))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False))
        stack.enter_context(simulated_autograd(engine))
        yield


_bfloat16_in_cache: set[bool] = set()


def _forget_results_for_others(*, bfloat16: bool) -> None:
    """Clear PyTorch's cache of results, which outlives a simulation, if it is of GPUs that convolve otherwise."""
    if _bfloat16_in_cache != {bfloat16}:
        FakeTensorMode.cache_clear()
        _bfloat16_in_cache.clear()
        _bfloat16_in_cache.add(bfloat16)


@contextlib.contextmanager
def simulated_autograd(engine: Engine) -> Iterator[None]:
    """Run backward passes with our engine."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in (*_autograd_patches(engine), *engine.hooks.patches()):
            stack.enter_context(_patch(owner, name, value))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(engine.pack, engine.unpack))
        yield


def _autograd_patches(engine: Engine) -> list[tuple[Any, str, Any]]:
    """Return (owner, name, replacement)."""
    return [
        (torch.autograd, "backward", engine.backward),
        (torch.autograd, "grad", _refuse_grad),
        # Checkpointing recomputes once per backward pass, which it identifies by this number.
        (torch._C, "_current_graph_task_id", lambda: engine.pass_id),
        (torch._C, "_will_engine_execute_node", engine.will_execute),
        (torch._C, "_current_autograd_node", lambda: engine.node),
        (torch.autograd.function.FunctionCtx, "set_materialize_grads", _set_materialize_grads),
    ]


def _gpu_patches(capability: tuple[int, int]) -> list[tuple[Any, str, Any]]:
    return [
        *without_cuda.replacements(bfloat16=capability >= (8, 0)),
        # Autocast and the gradient scaler disable themselves without a GPU.
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
    ]


def _set_materialize_grads(self: Any, value: bool) -> None:
    self.materialize_grads = value  # this attribute of PyTorch cannot be read
    self.materializes_grads = value


def _refuse_grad(*_: Any, **__: Any) -> Any:
    raise unsupported("torch.autograd.grad")


@contextlib.contextmanager
def _patch(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if original is None:  # inherited
            delattr(owner, name)
        else:
            setattr(owner, name, original)


@contextlib.contextmanager
def _append(types: list[Any], item: Any) -> Iterator[None]:
    types.append(item)
    try:
        yield
    finally:
        types.remove(item)
