"""One training step, as a newcomer would write it. Every probe runs this function."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from vram_cli.records import Phase
from vram_cli.workload.batches import Batch
from vram_cli.workload.losses import one_number
from vram_cli.workload.user_code import blamed_on
from vram_cli.workload.workload import OwnStep, Workload

Enter = Callable[[Phase], None]

MICRO_STEPS = 2
"""Of accumulated batches no more than this are run: the second, with gradients there, is like all that follow."""


def train_step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
    """Run zero_grad, forward, loss, backward and the optimizer's step; return the loss, detached.

    Args:
        work: what is trained.
        batch: what the work's loss takes, or the user's own step.
        enter: told the name of each phase as it begins.
    """
    if work.own_step is not None:
        return _own_step(work.own_step, work, batch, enter)
    return update(work, [batch] * min(work.gradient_accumulation_steps, MICRO_STEPS), enter)


def update(work: Workload, batches: Sequence[Batch], enter: Enter) -> torch.Tensor:
    """Take one step of the optimizer with the gradients of these batches; return the loss of the last, detached.

    Not for a step of the user's own. Gradients are divided by `work.gradient_accumulation_steps`, whatever the number
    of batches.
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
    with blamed_on(work.optimizer_key):
        work.scaler.step(work.optimizer)
    work.scaler.update()
    if work.average is not None:
        work.average.update(work.model)
    return loss.detach()


def _own_step(step: OwnStep, work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
    """Run the user's own step; phases begin where it calls backward and the optimizer."""
    stepping = work.optimizer.register_step_pre_hook(lambda *_: enter(Phase.OPTIMIZER))
    try:
        with _telling_backward(enter), blamed_on("step.function"):
            enter(Phase.FORWARD)
            loss = step(work.model, batch, work.optimizer)
    finally:
        stepping.remove()
    return one_number(loss, "step.function", "return it from the step").detach()


@contextlib.contextmanager
def _telling_backward(enter: Enter) -> Iterator[None]:
    """Say that the backward phase begins whenever something calls backward(), whoever's engine runs it."""
    run = torch.autograd.backward

    def backward(*args: object, **kwargs: object) -> object:
        enter(Phase.BACKWARD)
        return run(*args, **kwargs)  # type: ignore[arg-type]

    torch.autograd.backward = backward  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.autograd.backward = run
