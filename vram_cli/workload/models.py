"""The named models: input size and number of classes follow the data."""

from __future__ import annotations

import math

from torch import nn

from vram_cli.config import Config


def build_model(config: Config) -> nn.Module:
    """Return the config's model, freshly initialised, in training mode, on the CPU, in float32.

    Input is (batch, channels, height, width), output is (batch, classes) logits.
    """
    shape, classes = config.data.sample_shape, config.data.num_classes
    if config.model.name == "mlp":
        return mlp(shape, classes, config.model.hidden)
    if config.model.name == "cnn":
        return cnn(shape[0], classes)
    return resnet(config.model.name, shape[0], classes)


def mlp(shape: tuple[int, ...], classes: int, hidden: int) -> nn.Module:
    """Flatten, one hidden layer, ReLU: 784-128-10 for MNIST, 3072-128-10 for CIFAR-10."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def cnn(channels: int, classes: int) -> nn.Module:
    """Three 3x3 convolutions with batch norm, 32, 64 and 128 channels wide, pooled to one vector."""

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
    """Return torchvision's ResNet, untrained; its first convolution takes as many channels as the data has."""
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    if channels != 3:
        # As in torchvision/models/resnet.py, where the 3 is fixed.
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model
