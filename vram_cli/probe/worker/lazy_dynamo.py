"""Steps without the import of torch._dynamo, which takes as long as all of PyTorch's other imports together.

Optimizers and dispatch modes import it only to keep out of compiled code (torch/_compile.py, torch/optim/optimizer.py),
trackers to run compiled code eagerly, fake tensors for its config, and torchvision for a function that only models of
detection call. Whoever asks it for anything else gets the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"
_UTILS = f"{_NAME}.utils"


def make_dynamo_lazy() -> None:
    """From now on, import torch._dynamo only if something is compiled in this process."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = torch._dynamo = lazy = _LazyDynamo(_NAME)
        sys.modules[_UTILS] = _LazyUtils(_UTILS)
        _import_config(lazy)


def _import_config(lazy: _LazyDynamo) -> None:
    """Import one module of the package without the rest, which takes it from `sys.modules` later."""
    lazy.__path__ = [str(Path(torch.__file__).with_name("_dynamo"))]
    import_module(f"{_NAME}.config")
    del lazy.__path__


class _LazyDynamo(ModuleType):
    """Stands for torch._dynamo until somebody asks for more than to keep out of compiled code."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stances: list[_Stance] = []

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: there is no graph."""

    def set_stance(self, *arguments: Any, **options: Any) -> _Stance:
        """Return a stance that the real module takes if it is imported meanwhile: until then, nothing is compiled."""
        return _Stance(self, arguments, options)

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
            del sys.modules[_NAME], sys.modules[_UTILS]
            torch._dynamo = import_module(_NAME)
            for stance in self._stances:
                stance.take()
        return sys.modules[_NAME]


class _LazyUtils(ModuleType):
    """Stands for the module `utils` of torch._dynamo until somebody asks for more than a function to call later."""

    @staticmethod
    def is_compile_supported(device: Any) -> Any:
        """Return what the real function does."""
        return _real_utils().is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the real module; an import looks for `__path__`, as that of a package."""
        if name in ("__file__", "__path__"):
            raise AttributeError(name)
        return getattr(_real_utils(), name)


def _real_utils() -> Any:
    dynamo = sys.modules[_NAME]
    if isinstance(dynamo, _LazyDynamo):
        dynamo._real()
    return sys.modules[_UTILS]


class _Stance:
    """A stance of the compiler, taken from the beginning as the real one; a context manager and a decorator."""

    def __init__(self, lazy: _LazyDynamo, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._lazy, self._arguments, self._options = lazy, arguments, options
        self._taken: Any = None
        lazy._stances.append(self)

    def take(self) -> None:
        """Take the stance in the real module."""
        self._taken = self._lazy._real().set_stance(*self._arguments, **self._options)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        if self._taken is None:
            self._lazy._stances.remove(self)
        else:
            self._taken.__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Any:
        self._lazy._real()
        return self._taken(function)
