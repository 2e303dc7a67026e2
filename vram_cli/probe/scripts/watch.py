"""Follows the phases and steps of a training that knows nothing of them, by PyTorch's own hooks."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vram_cli.probe.scripts.loaders import Loader, Loaders
from vram_cli.records import Phase
from vram_cli.user_lines import user_line

_RARE = 4
"""Steps of the busiest optimizer per step that is asked for, after which others are not waited for."""
_BACKWARD_ALONE = 64
"""Backward passes without an optimizer's step, after which each backward pass counts as a step."""


class Listener(Protocol):
    """Is told of phases and steps."""

    def enter(self, phase: Phase) -> None:
        """A phase begins."""
        ...

    def model_runs(self, inputs: Any) -> None:
        """A forward pass with gradients begins, with these positional arguments."""
        ...

    def step_ended(self) -> None:
        """Every optimizer has stepped once more, and the training goes on with the next batch."""
        ...

    def may_end(self) -> None:
        """All steps have run: end the process, or return to let the training go on."""
        ...


class Watch:
    """Tells a listener of phases and steps.

    A step ends as the next batch is asked for, or the next forward pass begins, once every optimizer has stepped. So
    the end of a loop's body, such as `loss.item()` and schedulers, belongs to its step.

    Args:
        listener: is told.
        loaders: the DataLoaders of the training.
        steps: the steps to run.
        has_optimizer: whether an optimizer is known to step, after however many backward passes.

    Attributes:
        phase: the current phase.
        steps: steps that have ended.
        backwards: backward passes that have ended.
        models: models that run forward passes with gradients, the outermost modules, in the order of their first.
        optimizers: optimizers that have stepped.
        uses_autocast: whether a forward pass ran under autocast on a GPU.
        backward_line: the line that called backward last; the thread that runs it on a GPU has no line of its own.
        input_sizes: sizes of the tensors that modules are called with, as "6x3x32x32"; None to note none.
    """

    def __init__(self, listener: Listener, loaders: Loaders, steps: int, *, has_optimizer: bool = False) -> None:
        self.phase = Phase.BUILD
        self.steps = self.backwards = 0
        self.backward_line = ""
        self.uses_autocast = False
        self.models: weakref.WeakKeyDictionary[nn.Module, None] = weakref.WeakKeyDictionary()
        self.optimizers: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = weakref.WeakKeyDictionary()
        self.input_sizes: set[str] | None = None
        self._listener, self._loaders, self._wanted = listener, loaders, steps
        self._backward_alone = _BACKWARD_ALONE if not has_optimizer else sys.maxsize
        self._depth = self._in_backward = self._in_step = 0
        self._has_stepped = False
        self._thread = get_ident()
        loaders.on_next = self._batch_is_asked_for

    def install(self) -> None:
        """Follow the training from now on. Nothing takes this back: the process ends with the trial."""
        run = torch.autograd.backward

        def backward(*args: Any, **kwargs: Any) -> Any:
            return self._run_backward(lambda: run(*args, **kwargs))

        torch.autograd.backward = backward
        register_module_forward_pre_hook(self._module_runs)
        register_module_forward_hook(self._module_ends, always_call=True)
        register_optimizer_step_pre_hook(self._optimizer_steps)
        register_optimizer_step_post_hook(self._optimizer_stepped)

    @property
    def is_done(self) -> bool:
        """Whether the steps have run."""
        return self.steps >= self._wanted

    def end_step(self) -> None:
        """End a step if every optimizer has stepped since the last one ended; and all, if that was the last."""
        if not self._has_stepped:
            return
        self._has_stepped, steps = False, self._steps_so_far()
        if steps > self.steps:
            self.steps = steps
            self._listener.step_ended()
        if self.is_done:
            self._listener.may_end()

    def _steps_so_far(self) -> int:
        counts = list(self.optimizers.values())
        if not counts:
            return self.backwards if self.backwards >= self._backward_alone else 0
        return max(min(counts), max(counts) // _RARE)

    def _enter(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self._listener.enter(phase)

    def _batch_is_asked_for(self, loader: Loader) -> None:
        self._in_step = 0  # a step that raised an exception, which the script has caught
        training = self._loaders.plan.training
        if self.is_done:
            self._listener.may_end()
        if training and loader.key not in training:
            self.end_step()
            self._enter(Phase.VALIDATION)
        else:
            self.end_step()
            self._enter(Phase.BATCH)

    def _module_runs(self, module: nn.Module, args: Any) -> None:
        if not self._follows_module():
            return
        self._depth += 1
        if self._depth == 1:
            self._model_runs(module, args)
        if self.input_sizes is not None and torch.is_grad_enabled():
            self.input_sizes.update(_sizes(args))

    def _module_ends(self, *_: Any) -> None:
        if self._follows_module() and self._depth:
            self._depth -= 1

    def _follows_module(self) -> bool:
        """Return whether a module that runs belongs to a forward pass: checkpointing runs modules in backward, too."""
        return not torch.compiler.is_compiling() and not self._in_backward and get_ident() == self._thread

    def _model_runs(self, model: nn.Module, args: Any) -> None:
        with_gradients = torch.is_grad_enabled()
        self._loaders.model_runs(with_gradients=with_gradients, is_training=model.training)
        if not self._in_step:
            self.end_step()
        if with_gradients:
            self.models[model] = None
            self.uses_autocast |= torch.is_autocast_enabled("cuda")
            self._enter(Phase.FORWARD)
            self._listener.model_runs(args)
        elif model in self.models and not model.training and not self._in_step:
            self._enter(Phase.VALIDATION)
        elif self.phase is not Phase.BUILD and self.phase is not Phase.VALIDATION:
            self._enter(Phase.FORWARD)  # such as the teacher of a student

    def _run_backward(self, run: Callable[[], Any]) -> Any:
        self._enter(Phase.BACKWARD)
        self.backward_line = user_line(sys._getframe(2))
        self._loaders.backward_runs()
        self._in_backward += 1
        try:
            return run()
        finally:
            self._in_backward -= 1
            self._depth = 0
            self.backwards += 1
            if self._in_step:  # within a closure: the update itself is still to come
                self._enter(Phase.OPTIMIZER)
            if not self.optimizers and self.backwards >= self._backward_alone:
                self._has_stepped = True

    def _optimizer_steps(self, *_: Any) -> None:
        self._in_step += 1
        if not self._in_backward:  # a hook may step parameters as their gradients are complete
            self._enter(Phase.OPTIMIZER)

    def _optimizer_stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._in_step = max(self._in_step - 1, 0)
        self.optimizers[optimizer] = self.optimizers.get(optimizer, 0) + 1
        self._has_stepped = True
        if not self._in_backward and not self._in_step:
            self._enter(Phase.BATCH)  # a loop may make the next batch before it asks for another one


def _sizes(args: Any) -> list[str]:
    """Return the sizes of the tensors among arguments, and in lists of them."""
    parts = args if isinstance(args, (list, tuple)) else [args]
    sizes = []
    for part in parts:
        if isinstance(part, torch.Tensor):
            sizes.append("x".join(map(str, part.shape)))
        elif isinstance(part, (list, tuple)):
            sizes += _sizes(part)
    return sizes
