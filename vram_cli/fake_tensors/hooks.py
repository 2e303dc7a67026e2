"""Gradient hooks: those on tensors run as in PyTorch's engine; those on nodes and modules are refused by name."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as nn_module

from vram_cli.fake_tensors.errors import unsupported

Hook = Callable[[torch.Tensor], torch.Tensor | None]
Grads = list[torch.Tensor | None]


class TensorHooks:
    """Hooks of non-leaf tensors, by the node that created the tensor and its output; leaves carry their own hooks.

    Each runs once, since graphs are not retained.
    """

    def __init__(self) -> None:
        self._hooks: dict[tuple[Any, int], dict[int, Hook]] = {}
        self._retaining: dict[tuple[Any, int], weakref.ref[torch.Tensor]] = {}

    def run(self, node: Any, position: int, grads: Grads) -> None:
        """Run the hooks on the gradient of an output, and retain_grad after them (call_tensor_pre_hooks)."""
        run_all(self._hooks.pop((node, position), None), grads, position)
        retaining = self._retaining.pop((node, position), None)
        if retaining is not None:
            _retain(retaining(), grads[position])

    def patches(self) -> list[tuple[Any, str, Any]]:
        """Return (owner, name, replacement), to learn of hooks as they are registered."""
        return [
            (torch.Tensor, "register_hook", self._register_hook()),
            (torch.Tensor, "retain_grad", self._retain_grad()),
            # Hooks of C++ nodes cannot be read, but this function creates their handle.
            (torch.autograd.function._HookMixin, "_register_hook", staticmethod(_refuse_node_hook)),
        ]

    def _register_hook(self) -> Any:
        original = torch.Tensor.register_hook

        def register_hook(tensor: torch.Tensor, hook: Any) -> Any:
            handle = original(tensor, hook)  # type: ignore[no-untyped-call]
            if tensor.grad_fn is not None:
                self._hooks[tensor.grad_fn, tensor.output_nr] = tensor._backward_hooks  # type: ignore[assignment]
            return handle

        return register_hook

    def _retain_grad(self) -> Any:
        original = torch.Tensor.retain_grad

        def retain_grad(tensor: torch.Tensor) -> None:
            original(tensor)
            if tensor.grad_fn is not None:
                self._retaining[tensor.grad_fn, tensor.output_nr] = weakref.ref(tensor)

        return retain_grad


def run_all(hooks: dict[int, Hook] | None, grads: Grads, position: int) -> None:
    """Call hooks in the order of their registration; a result replaces the gradient."""
    for hook in list((hooks or {}).values()):
        result = hook(grads[position])  # type: ignore[arg-type]
        if result is not None:
            grads[position] = result


def refuse_module_hooks(model: nn.Module) -> None:
    """Refuse backward hooks of modules, which may keep or allocate tensors: they are attached to nodes.

    Raises:
        UnsupportedError: a module has one.
    """
    names = [name for name, module in model.named_modules() if module._backward_hooks or module._backward_pre_hooks]
    if names or nn_module._global_backward_hooks or nn_module._global_backward_pre_hooks:
        raise unsupported("a backward hook, which may keep or allocate tensors,", next(iter(names), ""))


def _refuse_node_hook(*_: Any) -> Any:
    raise unsupported("a hook on a node of the graph (grad_fn.register_hook, register_prehook, module backward hooks)")


def _retain(tensor: torch.Tensor | None, grad: torch.Tensor | None) -> None:
    """Copy the gradient of a non-leaf tensor to its `grad` (VariableHooks::retain_grad)."""
    if tensor is None or grad is None:
        return
    copy = grad.clone(memory_format=torch.contiguous_format) if tensor.grad is None else tensor.grad + grad
    tensor.grad = copy
