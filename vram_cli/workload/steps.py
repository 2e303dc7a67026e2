"""One step, as a newcomer would write it: of training, of evaluation, or the user's own. Every probe runs these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vram_cli.records import Phase
from vram_cli.workload.batches import Batch
from vram_cli.workload.loss_in_output import loss_in
from vram_cli.workload.parallel import accumulating
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
    for number, batch in enumerate(batches, start=1):
        with contextlib.nullcontext() if number == len(batches) else accumulating(work.model):
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
    """Return a step that runs the user's function; its phases begin when it calls modules, backward and optimizers."""

    def step(work: Workload, batch: Batch, enter: Enter) -> torch.Tensor:
        with UserPhases(work, enter).tracking(), errors_from("step.function"):
            loss = function(work.model, batch, work.optimizer)
        return loss_in(loss, "step.function", "return it from the step")[0].detach()

    return step


class UserPhases:
    """Enters the phases of a step whose code is unknown, and notes the optimizers that it steps.

    A module that runs outside backward begins a forward pass, as in the second half of a GAN's step or in the closure
    of LBFGS; in backward, activation checkpointing runs modules again. Backward begins at every call of backward(),
    including those of simulated engines.
    """

    def __init__(self, work: Workload, enter: Enter) -> None:
        self._work, self._enter = work, enter
        self._phase = Phase.FORWARD
        self.is_in_backward = False

    @contextlib.contextmanager
    def tracking(self, first: Phase = Phase.FORWARD) -> Iterator[None]:
        """Enter phases while the context is open, beginning with `first`."""
        run = torch.autograd.backward

        def backward(*args: object, **kwargs: object) -> object:
            self._begin(Phase.BACKWARD)
            self.is_in_backward = True
            try:
                return run(*args, **kwargs)  # type: ignore[arg-type]
            finally:
                self.is_in_backward = False

        hooks = [register_optimizer_step_pre_hook(self._optimizer_steps)]
        if not hasattr(self._work.model, "_orig_mod"):  # torch.compile would compile the hook with it
            hooks.append(register_module_forward_pre_hook(self._module_runs))
        torch.autograd.backward = backward  # type: ignore[assignment]
        try:
            self._begin(first)
            yield
        finally:
            torch.autograd.backward = run
            for hook in hooks:
                hook.remove()

    def _begin(self, phase: Phase) -> None:
        self._phase = phase
        self._enter(phase)

    def _module_runs(self, module: nn.Module, inputs: Any) -> None:  # noqa: ARG002 - for subclasses
        if self._phase is not Phase.FORWARD and not self.is_in_backward:
            self._begin(Phase.FORWARD)

    def _optimizer_steps(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if optimizer is not self._work.optimizer:
            self._work.own_optimizers.add(optimizer)
        if not self.is_in_backward:  # a hook may step parameters as their gradients are complete
            self._begin(Phase.OPTIMIZER)
