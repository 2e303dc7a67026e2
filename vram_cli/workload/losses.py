"""Calling a model with a batch, and the number that is trained on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.workload.batches import Batch
from vram_cli.workload.loss_in_output import loss_in
from vram_cli.workload.parallel import unwrapped
from vram_cli.workload.user_code import errors_from, instantiate, resolve

Loss = Callable[[nn.Module, Batch], torch.Tensor]
"""From a model and a batch to one number."""

Criterion = Callable[[Any, Any], torch.Tensor]
"""From a model's output and targets to one number. A module with tensors of its own is not trained."""

_MEAN = "take its mean, for example"
_LIBRARIES = ("torch", "torchvision", "timm")


def criterion_of(config: Config) -> Criterion | None:
    """Return the config's criterion, by default cross entropy; None if the model returns its own loss.

    Raises:
        ConfigError: the factory cannot be imported, or is not callable.
    """
    if config.loss and config.loss.factory:
        return _user_criterion(config.loss.factory, config.loss.kwargs)
    return None if _model_makes_loss(config) else nn.CrossEntropyLoss()


def loss_of(config: Config, criterion: Criterion | None) -> Loss:
    """Return the config's loss: by the criterion, or else the model's own."""
    data = _data_key(config)
    if criterion is None:
        return ModelLoss(data)
    reference = config.loss.factory if config.loss else None
    return supervised(criterion, f"loss.factory ({reference})" if reference else "loss", data)


def evaluation_of(config: Config, criterion: Criterion | None) -> Loss:
    """Return the forward pass of an evaluation, with the loss if a criterion compares outputs with targets.

    A model that makes its own loss is called with the whole batch, as in training, and so may still make it; many
    return predictions instead in evaluation mode. A config with a step of its own does not define its loss.
    """
    if criterion is None or config.step is not None:
        return lambda model, batch: forward(config, model, batch)
    return loss_of(config, criterion)


def forward(config: Config, model: nn.Module, batch: Batch) -> Any:
    """Call the model as a training step does, and return its output without a loss.

    For a step of the user's own, assume that it passes the inputs of a pair, or else the whole batch.
    """
    data = _data_key(config)
    if config.step is not None:
        is_pair = isinstance(batch, tuple) and len(batch) == 2
        return call(model, batch[0] if is_pair else batch, data)
    return call(model, batch if _model_makes_loss(config) else _pair(batch, data)[0], data)


def supervised(criterion: Criterion, key: str = "loss", data: str = "data") -> Loss:
    """Return the loss that compares the model's output for a batch's inputs with its targets.

    A library's criterion gets the logits of the output, if it has any; the user's own gets the output as it is.
    `key` and `data` are the config's keys to attribute errors of the criterion and of the model's call to.
    """
    takes_logits = _package_of(criterion) in _LIBRARIES

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        inputs, targets = _pair(batch, data)
        output = call(model, inputs, data)
        with errors_from(key):
            return loss_in(criterion(logits_of(output) if takes_logits else output, targets), key, _MEAN)[0]

    return loss


class ModelLoss:
    """The loss that a model makes itself.

    Attributes:
        note: a sentence on the part of the output that is the loss; "" if there is no choice.
    """

    def __init__(self, data: str) -> None:
        self._data, self.note = data, ""

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Call the model with the whole batch.

        Raises:
            ConfigError: its output has no loss.
        """
        loss, self.note = loss_in(call(model, batch, self._data), "loss: model")
        return loss


def call(model: nn.Module, inputs: Batch, data: str) -> Any:
    """Call a model: with a mapping by the names of its arguments, with a tuple in order, with anything else as it is.

    A mapping is passed in order if none of its names is an argument's.
    """
    with errors_from(f"{data}, as the model is called with it"):
        if isinstance(inputs, Mapping):
            if _takes_by_name(model, inputs, data):
                return model(**inputs)
            return model(*inputs.values())
        is_arguments = isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence)
        return model(*inputs) if is_arguments else model(inputs)


def _takes_by_name(model: nn.Module, inputs: Mapping[str, Any], data: str) -> bool:
    parameters = inspect.signature(unwrapped(model).forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return True
    matches = inputs.keys() & parameters.keys()
    if matches and matches != set(inputs):
        unknown = ", ".join(sorted(inputs.keys() - matches))
        raise ConfigError(f"{data}: the model takes no {unknown}", f"it takes {', '.join(parameters)}")
    return bool(matches)


def _user_criterion(reference: str, kwargs: dict[str, Any]) -> Criterion:
    factory = resolve(reference, "loss.factory")
    if inspect.isclass(factory):
        criterion = instantiate(reference, "loss.factory", kwargs)
    else:
        criterion = partial(factory, **kwargs) if callable(factory) and kwargs else factory
    if not callable(criterion):
        raise ConfigError(f"loss.factory: {reference} is a {type(criterion).__name__}, not callable", "name a function")
    return criterion  # type: ignore[no-any-return]


def _package_of(criterion: Criterion) -> str:
    function = criterion.func if isinstance(criterion, partial) else criterion
    return str(getattr(function, "__module__", "")).partition(".")[0]


def _model_makes_loss(config: Config) -> bool:
    """Whether the model makes its own loss: as configured, or by default if there are no targets."""
    if config.loss is not None:
        return config.loss.name == "model"
    return config.data.inputs is not None and config.data.targets is None


def _data_key(config: Config) -> str:
    return f"data.{config.data.kind}" if config.data.name is None else "data.name"


def _pair(batch: Batch, data: str) -> tuple[Any, Any]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise ConfigError(
        f"{data}: a loss needs (inputs, targets), but the batch is a {type(batch).__name__}",
        "return such a pair, or set loss: model if the model makes its own",
    )


def logits_of(output: Any) -> Any:
    """Return the logits in the output of a library's model, or the output as it is."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):  # "out" is that of torchvision's segmentation models
        return next((output[name] for name in ("logits", "out") if name in output), output)
    if (logits := getattr(output, "logits", None)) is not None:  # transformers, torchvision's Inception and GoogLeNet
        return logits
    is_pair = isinstance(output, (tuple, list)) and output and isinstance(output[0], torch.Tensor)
    return output[0] if is_pair else output  # such as (logits, features)
