"""The optimizers a config can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from vram_cli.config import Config

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def build_optimizer(config: Config, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the config's optimizer; settings that the config leaves open keep PyTorch's own defaults."""
    chosen = config.optimizer.model_dump(exclude={"name"}, exclude_none=True)
    settings: dict[str, Any] = {"lr": config.train.learning_rate, **chosen}
    return _CLASSES[config.optimizer.name](parameters, **settings)
