"""How a model is called with a batch, and what number is trained on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.workload.batches import Batch
from vram_cli.workload.code import blamed_on, called, resolve

Loss = Callable[[nn.Module, Batch], torch.Tensor]
"""From a model and a batch to one number."""


def loss_of(config: Config) -> Loss:
    """Return the config's loss: of its own target, of the model itself, or cross entropy.

    Raises:
        ConfigError: the target cannot be imported.
    """
    given = config.loss
    if given and given.target:
        return supervised(_criterion(given.target, given.kwargs), f"loss.target ({given.target})", _key_of(config))
    if _is_the_models(config):
        return lambda model, batch: own_loss(model, batch, _key_of(config))
    return supervised(nn.CrossEntropyLoss(), "loss", _key_of(config))


def forward(config: Config, model: nn.Module, batch: Batch) -> Any:
    """Call the model with what a training step calls it with, and return its output; no loss is taken.

    How a step of the user's own calls it nobody knows: it is given the inputs of a pair, or else the whole batch.
    """
    data = _key_of(config)
    if config.step is not None:
        paired = isinstance(batch, tuple) and len(batch) == 2
        return call(model, batch[0] if paired else batch, data)
    return call(model, batch if _is_the_models(config) else _pair(batch, data)[0], data)


def supervised(criterion: Callable[[Any, Any], torch.Tensor], key: str = "loss", data: str = "data") -> Loss:
    """Return the loss that compares the model's output for a batch's inputs with its targets.

    A module of PyTorch's is given the output's logits, where it has such; a function of the user's the output as it is.
    `key` and `data` name what is to blame where the criterion, or the model, refuses what it is given.
    """

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        inputs, targets = _pair(batch, data)
        output = call(model, inputs, data)
        output = _logits(output) if isinstance(criterion, nn.Module) else output
        with blamed_on(key):
            return _scalar(criterion(output, targets), key)

    return loss


def own_loss(model: nn.Module, batch: Batch, data: str) -> torch.Tensor:
    """Return the loss that a model makes itself: a number, an output that has one, or a dict of them to be added."""
    output = call(model, batch, data)
    if isinstance(output, Mapping) and "loss" in output:
        output = output["loss"]
    elif isinstance(output, Mapping):
        output = sum(output.values())
    elif not isinstance(output, torch.Tensor):
        output = getattr(output, "loss", output)
    return _scalar(output, "loss: model")


def call(model: nn.Module, inputs: Batch, data: str) -> Any:
    """Call a model: with a mapping by the names of its arguments, with a tuple in order, with anything else as it is.

    A mapping none of whose names is an argument's is given in order.
    """
    with blamed_on(f"{data}, as the model is called with it"):
        if isinstance(inputs, Mapping):
            if _takes(model, inputs):
                return model(**inputs)
            return model(*inputs.values())
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _takes(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    parameters = inspect.signature(getattr(model, "_orig_mod", model).forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return True
    known = inputs.keys() & parameters.keys()
    if known and known != set(inputs):
        wrong = ", ".join(sorted(inputs.keys() - known))
        raise ConfigError(f"data.inputs: the model takes no {wrong}", f"it takes {', '.join(parameters)}")
    return bool(known)


def _criterion(target: str, kwargs: dict[str, Any]) -> Callable[[Any, Any], torch.Tensor]:
    found = resolve(target, "loss.target")
    made = called(target, "loss.target", kwargs) if inspect.isclass(found) else found
    if not callable(made):
        raise ConfigError(f"loss.target: {target} is a {type(made).__name__}, and nothing to call", "name a function")
    return made  # type: ignore[no-any-return]


def _is_the_models(config: Config) -> bool:
    """Whether the model makes its own loss: where the config says so, or no targets and no other loss."""
    if config.loss is not None:
        return config.loss.name == "model"
    return config.data.inputs is not None and config.data.targets is None


def _key_of(config: Config) -> str:
    return f"data.{config.data.kind}" if config.data.name is None else "data.name"


def _pair(batch: Batch, data: str) -> tuple[Any, Any]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise ConfigError(
        f"{data}: a loss needs (inputs, targets), and the batch is a {type(batch).__name__}",
        "return such a pair, or set loss: model where the model makes its own",
    )


def _logits(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping) and "out" in output:  # torchvision's segmentation models
        return output["out"]
    return getattr(output, "logits", output)  # transformers, and torchvision's Inception and GoogLeNet


def _scalar(loss: Any, key: str) -> torch.Tensor:
    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        return loss
    kind = f"a tensor of {list(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
    raise ConfigError(f"{key}: the loss is {kind}, and must be one number", "take its mean, for example")
