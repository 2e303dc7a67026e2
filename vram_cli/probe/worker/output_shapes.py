"""What the modules of a model return in a forward pass.

torchinfo 1.8 could tell too, but raises on outputs of classes that it does not know, and of a dict takes the last one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vram_cli.workload import tensors_of


class Shapes:
    """What modules return in a forward pass, by the module's id; as far as it came, if it failed."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.calls: Counter[int] = Counter()

    def watch(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Run something that calls the model, with nothing kept for a backward pass."""
        hooks = [module.register_forward_hook(self._note) for module in model.modules()]
        try:
            with torch.no_grad():
                run()
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, module: nn.Module, _: Any, output: Any) -> None:
        self.calls[id(module)] += 1
        shapes = [tuple(tensor.shape) for tensor in tensors_of(output)]
        if shapes:
            self.outputs[id(module)] = next(filter(None, shapes), shapes[0])
