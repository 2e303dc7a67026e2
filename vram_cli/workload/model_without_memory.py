"""Models that are built without memory, and placed on a device that computes no value: fake, or the virtual GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Build = Callable[[], nn.Module]


def build_without_memory(build: Build) -> nn.Module:
    """Build the model on the meta device, or on the CPU if its constructor reads values.

    A model that keeps a tensor which is neither parameter nor buffer is built on the CPU too, where a training script
    would leave that tensor. On the CPU, `torch.nn.init` is disabled: pages that are never written take no memory.
    """
    # An exception on the meta device, such as numpy's TypeError, is raised again on the CPU if it matters.
    with contextlib.suppress(Exception), torch.device("meta"):
        model = build()
        if not any(isinstance(value, torch.Tensor) for module in model.modules() for value in vars(module).values()):
            return model
    with _no_init():
        return build()


class ModelWithoutValues:
    """A model that moves to a device as often as needed, each time from the tensors that it was built with.

    Tensors that an earlier run put in their place are dropped, and the hooks on them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._originals = list(_tensors(model))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Replace parameters and buffers by empty tensors on the device, in the order in which `Module.to` moves them.

        A parameter that several modules share stays shared. For a fake device, call this under a FakeTensorMode.
        """
        placed: dict[int, torch.Tensor] = {}
        for store, name, tensor in self._originals:
            if id(tensor) not in placed:
                placed[id(tensor)] = _placed(tensor, device, dtype)
            store[name] = placed[id(tensor)]
        self._link_flat_weights()

    def restore(self) -> None:
        """Put the tensors back that the model was built with."""
        for store, name, tensor in self._originals:
            store[name] = tensor
        self._link_flat_weights()

    def _link_flat_weights(self) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()


class ReusedModel:
    """A model that is built once and placed for each trial; built again if a trial changed an attribute of a module."""

    def __init__(self) -> None:
        self._model: ModelWithoutValues | None = None
        self._attributes: list[dict[str, int]] = []

    def place(self, build: Build, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
        """Return the model with empty tensors on the device."""
        model = self.built(build)
        model.to(device, dtype)
        return model.model

    def built(self, build: Build) -> ModelWithoutValues:
        """Return the model, built if it is not yet, or if a trial changed it."""
        if self._model is None or self._is_changed(self._model.model):
            self._model = ModelWithoutValues(build_without_memory(build))
            self._attributes = _attributes(self._model.model)
        return self._model

    def release(self) -> None:
        """Let the tensors on the device go, and the model if a trial changed it: it may hold some elsewhere."""
        if self._model is None:
            return
        self._model.restore()
        if self._is_changed(self._model.model):
            self._model = None

    def _is_changed(self, model: nn.Module) -> bool:
        return _attributes(model) != self._attributes


def _attributes(model: nn.Module) -> list[dict[str, int]]:
    """Return the identity of each attribute of each module."""
    return [{name: id(value) for name, value in vars(module).items()} for module in model.modules()]


def _tensors(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Yield (dictionary, name, tensor) for the tensors of a module, those of its children first."""
    for child in module.children():
        yield from _tensors(child)
    for store in (module._parameters, module._buffers):
        yield from ((store, name, tensor) for name, tensor in store.items() if tensor is not None)


def _placed(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None) -> torch.Tensor:
    to_dtype = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=to_dtype, device=device)
    if not isinstance(tensor, nn.Parameter):
        return empty
    parameter = nn.Parameter(empty, requires_grad=tensor.requires_grad)
    _copy_hooks(tensor, parameter)
    return parameter


def _copy_hooks(old: torch.Tensor, new: torch.Tensor) -> None:
    """Copy the hooks of a parameter to its replacement, since `Module.to` keeps them."""
    for attribute in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        hooks = getattr(old, attribute, None)
        if hooks is not None:
            setattr(new, attribute, hooks)


@contextlib.contextmanager
def _no_init() -> Iterator[None]:
    """Disable the functions of `torch.nn.init`."""
    names = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    originals = {name: getattr(nn.init, name) for name in names}
    try:
        for name in names:
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, function in originals.items():
            setattr(nn.init, name, function)
