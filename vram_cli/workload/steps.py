"""One step, as a newcomer would write it: of training, of evaluation, or the user's own. Every probe runs these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from vram_cli.records import Phase
from vram_cli.workload.batches import Batch
from vram_cli.workload.losses import one_number
from vram_cli.workload.user_code import errors_from
from vram_cli.workload.workload import Enter, Step, Workload

UserStep = Callable[[nn.Module, Any, Any], Any]
"""The user's step(model, batch, optimizer) -> loss."""

MAX_MICRO_BATCHES = 2
"""Micro-batches of an accumulation that a memory trial runs: once gradients exist, memory no longer changes."""


def train_step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
    """Run zero_grad, forward, loss, backward and the optimizer's step; return the loss, detached."""
    return update(work, [batch] * work.micro_batches, enter)


def update(work: Workload, batches: Sequence[Batch], enter: Enter) -> torch.Tensor:
    """Take one optimizer step with the gradients of these batches; return the loss of the last, detached.

    Gradients are divided by `work.gradient_accumulation_steps`, whatever the number of batches.
    """
    work.optimizer.zero_grad(set_to_none=work.zero_grad_to_none)
    for batch in batches:
        enter(Phase.FORWARD)
        with work.autocast():
            loss = work.loss(work.model, batch)
        enter(Phase.BACKWARD)
        work.scaler.scale(
            loss / work.gradient_accumulation_steps if work.gradient_accumulation_steps > 1 else loss
        ).backward()
    enter(Phase.OPTIMIZER)
    if work.clip_grad_norm is not None:
        work.scaler.unscale_(work.optimizer)
        torch.nn.utils.clip_grad_norm_(work.model.parameters(), work.clip_grad_norm)
    with errors_from(work.optimizer_key):
        work.scaler.step(work.optimizer)
    work.scaler.update()
    if work.average is not None:
        work.average.update(work.model)
    return loss.detach()


def evaluation_step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
    """Run the forward pass as a validation loop does: in inference mode, with the loss if the batch has targets."""
    enter(Phase.FORWARD)
    with torch.inference_mode(), work.autocast():
        return work.loss(work.model, batch)


def user_step(function: UserStep) -> Step:
    """Return a step that runs the user's function; its phases begin when it calls backward and the optimizer."""

    def step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
        hook = work.optimizer.register_step_pre_hook(lambda *_: enter(Phase.OPTIMIZER))
        try:
            with _backward_enters(enter), errors_from("step.function"):
                enter(Phase.FORWARD)
                loss = function(work.model, batch, work.optimizer)
        finally:
            hook.remove()
        return one_number(loss, "step.function", "return it from the step").detach()

    return step


@contextlib.contextmanager
def _backward_enters(enter: Enter) -> Iterator[None]:
    """Enter the backward phase at every call of backward(), including those of simulated engines."""
    run = torch.autograd.backward

    def backward(*args: object, **kwargs: object) -> object:
        enter(Phase.BACKWARD)
        return run(*args, **kwargs)  # type: ignore[arg-type]

    torch.autograd.backward = backward  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.autograd.backward = run
