"""A model whose tensors have shapes and no memory, on a GPU that is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from vram_cli.fake_tensors.hooks import keep_hooks

Build = Callable[[], nn.Module]


def build_without_memory(build: Build) -> nn.Module:
    """Return the model as `build` makes it, on the meta device, or on the CPU where it reads values while it is built.

    So it is where it keeps a tensor that is neither parameter nor buffer: a training script leaves that on the CPU. On
    the CPU `torch.nn.init` is switched off: pages that are never written take no memory.
    """
    # Whatever goes wrong on the meta device, such as numpy's TypeError, goes wrong on the CPU as well, or is no matter.
    with contextlib.suppress(Exception), torch.device("meta"):
        model = build()
        if not any(isinstance(value, torch.Tensor) for module in model.modules() for value in vars(module).values()):
            return model
    with _no_init():
        return build()


class FakeModel:
    """A model that can be put on the device again and again: always from the tensors that it was built with.

    What an earlier run has put in their place, with hooks of its own on them, is forgotten.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._built = list(_tensors(model))

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Replace parameters and buffers by fakes on the device, one after the other as `Module.to` moves them.

        A parameter that several modules share stays shared. Must be called under a FakeTensorMode.
        """
        done: dict[int, torch.Tensor] = {}
        for store, name, tensor in self._built:
            if id(tensor) not in done:
                done[id(tensor)] = _fake(tensor, device, dtype)
            store[name] = done[id(tensor)]
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()


def _tensors(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Return the tensors of a module, those of its children first, with what holds them."""
    for child in module.children():
        yield from _tensors(child)
    for store in (module._parameters, module._buffers):
        yield from ((store, name, tensor) for name, tensor in store.items() if tensor is not None)


def _fake(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None) -> torch.Tensor:
    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=kind, device=device)
    if not isinstance(tensor, nn.Parameter):
        return fake
    parameter = nn.Parameter(fake, requires_grad=tensor.requires_grad)
    keep_hooks(tensor, parameter)
    return parameter


@contextlib.contextmanager
def _no_init() -> Iterator[None]:
    """Make `torch.nn.init` leave tensors as they are."""
    names = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    known = {name: getattr(nn.init, name) for name in names}
    try:
        for name in names:
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, function in known.items():
            setattr(nn.init, name, function)
