"""Track which module of a model is running, so that its allocations can be attributed to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from vram_cli.module_paths import parent_path


class ModuleTracker:
    """Tracks the forward passes of a model's modules, and the nodes of the backward pass.

    A node belongs to the module whose forward pass created it. Autograd numbers nodes as it creates them, and
    `_first_nodes` holds the number from which on each module was running. Each thread counts its own nodes, so a
    checkpoint that recomputes in the backward thread of a GPU may be attributed to another module of the same block.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._stack: list[str] = []
        self._first_nodes: list[tuple[int, str]] = []
        self._parameter_modules: dict[int, str] = {}
        self._backward_module = ""

    @property
    def current(self) -> str:
        """The innermost running module, by its name in `named_modules`; "" outside all modules."""
        return self._stack[-1] if self._stack else self._backward_module

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Track forward passes while the context is open."""
        hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def begin_phase(self) -> None:
        """Leave all modules, including those left open by an exception, and look up which module owns a parameter."""
        self._stack.clear()
        self._backward_module = ""
        self._parameter_modules = {id(p): parent_path(name) for name, p in self._model.named_parameters()}

    def follow_backward_node(self) -> None:
        """Switch to the module that created the node which autograd runs in this thread, or owns its parameter."""
        node = torch._C._current_autograd_node()
        if node is None:
            self._backward_module = ""
        elif hasattr(node, "variable"):
            self._backward_module = self._parameter_modules.get(id(node.variable), "")
        else:
            at = bisect_right(self._first_nodes, node._sequence_nr(), key=lambda entry: entry[0]) - 1
            self._backward_module = self._first_nodes[at][1] if at >= 0 else ""

    def _enter(self, module: nn.Module, _: Any) -> None:
        # A module outside the model, such as one created in a forward pass, counts as the module that calls it.
        self._stack.append(self._names.get(module, self.current))
        self._note_first_node()

    def _leave(self, *_: Any) -> None:
        if self._stack:
            self._stack.pop()
        self._note_first_node()

    def _note_first_node(self) -> None:
        self._first_nodes.append((torch._C._autograd._get_sequence_nr(), self.current))
