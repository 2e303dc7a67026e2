"""The config's model: a preset, whose input size and classes follow the data, or the result of a factory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.workload.activation_checkpointing import apply_activation_checkpointing
from vram_cli.workload.losses import forward
from vram_cli.workload.model_libraries import library_builder
from vram_cli.workload.open_data import open_data
from vram_cli.workload.user_code import errors_from, import_torchvision, instantiate

_DATA_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def build_model(config: Config, *, initializes_lazy_layers: bool = True) -> nn.Module:
    """Return the config's model on the CPU, in the config's mode, with its frozen parameters frozen.

    Args:
        config: names the model.
        initializes_lazy_layers: whether a forward pass gives lazy layers their shapes; if not, the first batch does.

    Raises:
        ConfigError: the factory cannot be imported or makes no model, or a pattern matches nothing in the model.
        Exception: any error of the factory, attributed to `model.factory`.
    """
    model = _from_factory(config) if config.model.factory else _preset(config)
    if initializes_lazy_layers:
        _initialize_lazy_layers(model, config)
    _freeze(model, config.train.freeze)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.mode == "eval":
        return model.eval()
    return apply_activation_checkpointing(model.train(), config.train.activation_checkpointing)


def _from_factory(config: Config) -> nn.Module:
    reference, kwargs = str(config.model.factory), config.model.kwargs
    build = library_builder(reference)
    if build is None:
        model = instantiate(reference, "model.factory", kwargs)
    else:
        with errors_from(f"model.factory ({reference})"):
            model = build(**kwargs)
    if not isinstance(model, nn.Module):
        hint = "name a class of torch.nn.Module, or a function that returns a model"
        raise ConfigError(f"model.factory: {reference} returns a {type(model).__name__}, not a model", hint)
    return model


def _initialize_lazy_layers(model: nn.Module, config: Config) -> None:
    """Run a forward pass of two samples, which gives lazy layers their shapes, as scripts do before the optimizer."""
    lazy = [tensor for tensor in (*model.parameters(), *model.buffers()) if is_lazy(tensor)]
    if lazy:
        batch = open_data(config, read_files=False).make_batch(2, lazy[0].device, data_dtype(model))
        with torch.no_grad():
            forward(config, model, batch)


def data_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype that float32 data are converted to: that of the model's first floating parameter.

    A quantized model, whose parameters are narrower than 16 bits, and one without floating parameters take float32.
    """
    dtypes = (parameter.dtype for parameter in model.parameters())
    return next((dtype for dtype in dtypes if dtype in _DATA_DTYPES), torch.float32)


def data_dtype_name(config: Config, model: nn.Module) -> str:
    """Return the name of the dtype that data take for a model, which need not have been converted yet."""
    return str(parameter_dtype(config) or data_dtype(model)).removeprefix("torch.")


def parameter_dtype(config: Config) -> torch.dtype | None:
    """Return the dtype that floating parameters are converted to: bfloat16 for pure bf16; None leaves them as made."""
    return torch.bfloat16 if config.precision == "bf16" else None


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        matches = [parameter for name, parameter in model.named_parameters() if fnmatchcase(name, pattern)]
        if not matches:
            names = ", ".join(list(dict(model.named_children()))[:6])
            raise ConfigError(f"train.freeze: no parameter is called {pattern!r}", f"the model's parts are {names}")
        for parameter in matches:
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("train.freeze: no parameter is left to train", "remove some of the patterns")


def _preset(config: Config) -> nn.Module:
    """Return a model from (batch, channels, height, width) to (batch, classes) logits."""
    shape, classes = config.data.sample_shape, config.data.num_classes
    if config.model.name == "mlp":
        return mlp(shape, classes, config.model.hidden)
    if config.model.name == "cnn":
        return cnn(shape[0], classes)
    return resnet(str(config.model.name), shape[0], classes)


def mlp(shape: tuple[int, ...], classes: int, hidden: int) -> nn.Module:
    """Return an MLP with one hidden layer and ReLU: 784-128-10 for MNIST, 3072-128-10 for CIFAR-10."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def cnn(channels: int, classes: int) -> nn.Module:
    """Return a CNN of three 3x3 convolutions with batch norm, 32, 64 and 128 channels wide, pooled to one vector."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *block(channels, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.MaxPool2d(2),
        *block(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, classes),
    )


def resnet(name: str, channels: int, classes: int) -> nn.Module:
    """Return torchvision's ResNet, untrained, with as many input channels as the data has."""
    model: nn.Module = import_torchvision("models").get_model(name, weights=None, num_classes=classes)
    if channels != 3:
        # As in torchvision/models/resnet.py, which hard-codes 3 channels.
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model
