"""A workload: model, loss, optimizer and precision on one device, and the step that runs them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vram_cli.records import Phase
from vram_cli.workload.batches import Batch
from vram_cli.workload.losses import Loss
from vram_cli.workload.parallel import local_optimizer, unwrapped
from vram_cli.workload.weight_average import WeightAverage

Enter = Callable[[Phase], None]
"""Called with each phase of a step as it begins."""

Step = Callable[["Workload", Batch, Enter], torch.Tensor]
"""Runs one step on a batch and returns the loss, detached; an evaluation without a loss returns the model's output."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything that a step needs except a batch."""

    model: nn.Module
    loss: Loss
    optimizer: Any
    """A torch.optim.Optimizer, or a stand-in if parameters are stepped in backward; None in evaluation."""
    device: torch.device
    step: Step
    """Runs one step: `train_step`, `evaluation_step` or the user's own."""
    scaler: torch.amp.GradScaler
    autocast_dtype: torch.dtype | None = None
    zero_grad_to_none: bool = True
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    micro_batches: int = 1
    """Micro-batches that `step` runs; gradients are divided by `gradient_accumulation_steps` all the same."""
    clip_grad_norm: float | None = None
    average: WeightAverage | None = None
    criterion: nn.Module | None = None
    """The loss function, if it is a module: it may have tensors of its own, such as a whole network."""
    own_optimizers: weakref.WeakSet[torch.optim.Optimizer] = field(default_factory=weakref.WeakSet)
    """Optimizers that the user's step makes itself, known once they have stepped."""
    optimizer_key: str = ""
    """Key of the config to attribute errors of the optimizer's steps to, if it is not a preset."""

    @property
    def module(self) -> nn.Module:
        """The user's model, with its own names of modules."""
        return unwrapped(self.model)

    @property
    def is_replicated(self) -> bool:
        """Whether DDP averages the gradients, in buckets that outlive steps."""
        return isinstance(self.model, DistributedDataParallel)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on a step that has run."""
        note = getattr(self.loss, "note", "")
        return (note,) if note else ()

    @property
    def optimizers(self) -> list[Any]:
        """All optimizers: the config's, unless this is an evaluation, and the user's own."""
        return [*([] if self.optimizer is None else [local_optimizer(self.optimizer)]), *self.own_optimizers]

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)
