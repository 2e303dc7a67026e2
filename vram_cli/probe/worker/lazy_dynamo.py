"""Steps without the import of torch._dynamo, which takes as long as all of PyTorch's other imports together.

Optimizers and dispatch modes import it only to keep out of compiled code (torch/_compile.py, torch/optim/optimizer.py).
Whoever asks it for anything else gets the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"


def make_dynamo_lazy() -> None:
    """From now on, import torch._dynamo only if something is compiled in this process."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = torch._dynamo = _LazyDynamo(_NAME)


class _LazyDynamo(ModuleType):
    """Stands for torch._dynamo until somebody asks for more than to keep out of compiled code."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: there is no graph."""

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        """Return a function that is not compiled: itself, as long as nothing is."""
        if not isinstance(function, FunctionType):
            return self._real().disable(function, *arguments, **options)
        disabled: list[Callable[..., Any]] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if sys.modules.get(_NAME) is self:
                return function(*args, **kwargs)
            if not disabled:
                disabled.append(self._real().disable(function, *arguments, **options))
            return disabled[0](*args, **kwargs)

        return call

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the real module; `inspect` asks all modules for their files, and needs none of it."""
        if name == "__file__":
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        """Return the real module, and put it in the place of this one."""
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
            torch._dynamo = import_module(_NAME)
        return sys.modules[_NAME]
