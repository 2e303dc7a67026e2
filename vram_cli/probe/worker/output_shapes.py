"""The shapes of the outputs of a model's modules in a forward pass.

torchinfo 1.8 records them too, but raises on outputs of unknown classes, and takes the last value of a dict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vram_cli.workload import tensors_of


class OutputShapes:
    """Output shapes by the module's id; those before the failure if the forward pass fails."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.calls: Counter[int] = Counter()

    def watch(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Record the outputs while `run` calls the model, without gradients."""
        hooks = [module.register_forward_hook(self._record) for module in model.modules()]
        try:
            with torch.no_grad():
                run()
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, module: nn.Module, _: Any, output: Any) -> None:
        self.calls[id(module)] += 1
        shapes = [tuple(tensor.shape) for tensor in tensors_of(output)]
        if shapes:
            self.outputs[id(module)] = next(filter(None, shapes), shapes[0])
