"""The modules and optimizers of a training that nobody names: those that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from vram_cli.records import Phase
from vram_cli.workload import Workload
from vram_cli.workload.steps import UserPhases
from vram_cli.workload.workload import Enter


class FoundModules(nn.Module):
    """The outermost modules that have run, as one: a single one keeps the names of its parameters.

    It does not own them: moving or saving them does not pass through here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._roots: list[nn.Module] = []  # a list, so that they are no submodules
        self._parts: set[nn.Module] = set()

    def add(self, module: nn.Module) -> bool:
        """Add a module, unless it is part of one of these or has no tensors; return whether it was added."""
        if module in self._parts or next(chain(module.parameters(), module.buffers()), None) is None:
            return False
        parts = {*module.modules()}
        self._roots = [*(root for root in self._roots if root not in parts), module]
        self._parts |= parts
        return True

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._roots)

    def __contains__(self, module: nn.Module) -> bool:
        """Return whether a module is one of these, or part of one."""
        return module in self._parts

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield all modules with their paths; those of several models begin with the name of a class."""
        memo = set() if memo is None else memo
        counts: Counter[str] = Counter()
        for root in self._roots:
            kind = type(root).__name__
            counts[kind] += 1
            name = "" if len(self._roots) == 1 else kind if counts[kind] == 1 else f"{kind}_{counts[kind]}"
            yield from root.named_modules(memo, ".".join(filter(None, (prefix, name))), remove_duplicate)


class LivePhases(UserPhases):
    """Enters phases, adds the modules that run to the workload's, and reports what they take.

    A step begins by making its batch. Modules without tensors, such as transforms, may do that; the first one that has
    tensors begins the forward pass.

    Args:
        work: the workload.
        modules: its model.
        enter: enters a phase.
        on_inputs: called with the inputs of the outermost modules.
        on_found: called as a module is added.
    """

    def __init__(
        self,
        work: Workload,
        modules: FoundModules,
        enter: Enter,
        *,
        on_inputs: Callable[[Any], None],
        on_found: Callable[[], None],
    ) -> None:
        super().__init__(work, enter)
        self._modules = modules
        self._on_inputs, self._on_found = on_inputs, on_found
        self._depth = 0

    @contextmanager
    def tracking(self, first: Phase = Phase.BATCH) -> Iterator[None]:
        """Enter phases while the context is open."""
        self._depth = 0
        leave = register_module_forward_hook(self._module_ran, always_call=True)
        try:
            with super().tracking(first):
                yield
        finally:
            leave.remove()

    def _module_runs(self, module: nn.Module, inputs: Any) -> None:
        self._depth += 1
        if self._depth > 1 or self.is_in_backward:
            return
        is_new = self._modules.add(module)
        if module in self._modules:
            super()._module_runs(module, inputs)
        if is_new:
            self._on_found()
        self._on_inputs(inputs)

    def _module_ran(self, *_: object) -> None:
        self._depth = max(self._depth - 1, 0)
