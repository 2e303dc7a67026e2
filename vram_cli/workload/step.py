"""One training step, as a newcomer would write it. Every probe runs this function."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vram_cli.results import Phase
from vram_cli.workload.workload import Workload


def train_step(
    work: Workload, batch: tuple[torch.Tensor, torch.Tensor], enter: Callable[[Phase], None]
) -> torch.Tensor:
    """Run zero_grad, forward, loss, backward and the optimizer's step; return the loss, detached.

    Args:
        work: what is trained.
        batch: images (n, channels, height, width) and targets (n,).
        enter: told the name of each phase as it begins.
    """
    images, targets = batch
    work.optimizer.zero_grad(set_to_none=work.zero_grad_to_none)
    enter(Phase.FORWARD)
    with work.autocast():
        loss = work.loss(work.model(images), targets)
    enter(Phase.BACKWARD)
    work.scaler.scale(loss).backward()
    enter(Phase.OPTIMIZER)
    work.scaler.step(work.optimizer)
    work.scaler.update()
    return loss.detach()
