"""Which module of a model is running, so that what it allocates can be put down to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class ModuleTracker:
    """Follows the forward passes of a model's modules, and the nodes of the backward pass.

    A node belongs to the module in whose forward pass it was made: nodes are numbered as they are made, and `_marks`
    says from which number on which module was running. Numbers are counted a thread; what a checkpoint computes again
    in the backward thread of a GPU may be put down to another module of the same block.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._stack: list[str] = []
        self._marks: list[tuple[int, str]] = []
        self._owners: dict[int, str] = {}
        self._of_node = ""

    @property
    def running(self) -> str:
        """The innermost module, by its name in `named_modules`; "" outside of all."""
        return self._stack[-1] if self._stack else self._of_node

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow forward passes meanwhile."""
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
        """Leave all modules, those too that an exception has left behind; see whose the parameters are."""
        self._stack.clear()
        self._of_node = ""
        self._owners = {id(p): name.rpartition(".")[0] for name, p in self._model.named_parameters()}

    def enter_running_node(self) -> None:
        """Take the module that made the node which the engine runs in this thread, or whose parameter's it is."""
        node = torch._C._current_autograd_node()
        if node is None:
            self._of_node = ""
        elif hasattr(node, "variable"):
            self._of_node = self._owners.get(id(node.variable), "")
        else:
            at = bisect_right(self._marks, node._sequence_nr(), key=lambda mark: mark[0]) - 1
            self._of_node = self._marks[at][1] if at >= 0 else ""

    def _enter(self, module: nn.Module, _: Any) -> None:
        # A module that is no part of the model, such as one made on the way, belongs to the one that calls it.
        self._stack.append(self._names.get(module, self.running))
        self._mark()

    def _leave(self, *_: Any) -> None:
        if self._stack:
            self._stack.pop()
        self._mark()

    def _mark(self) -> None:
        self._marks.append((torch._C._autograd._get_sequence_nr(), self.running))
