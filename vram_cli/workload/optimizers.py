"""The optimizers a config can name: PyTorch's, those of bitsandbytes, and either of them inside the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
_BITSANDBYTES = {
    "adam8bit": "Adam8bit",
    "adamw8bit": "AdamW8bit",
    "paged_adamw": "PagedAdamW",
    "paged_adamw8bit": "PagedAdamW8bit",
}


class InBackward:
    """Steps each parameter as soon as its gradient is complete, and frees that: hardly any gradients live together.

    As in PyTorch's tutorial "How to save memory by fusing the optimizer step into the backward pass". It has what a
    training step asks of an optimizer.
    """

    def __init__(
        self, make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer], parameters: list[torch.nn.Parameter]
    ) -> None:
        self._own = {parameter: make([parameter]) for parameter in parameters}
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._step)

    @property
    def state(self) -> dict[torch.nn.Parameter, Any]:
        """The state of all parameters."""
        return {parameter: optimizer.state[parameter] for parameter, optimizer in self._own.items()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The settings of all parameters, such as their learning rates, to be changed between steps."""
        return [group for optimizer in self._own.values() for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: no gradient is left."""

    def step(self) -> None:
        """Do nothing: it is done."""

    def _step(self, parameter: torch.Tensor) -> None:
        optimizer = self._own[parameter]  # type: ignore[index]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def is_bitsandbytes(config: Config) -> bool:
    """Whether the config's optimizer is one of bitsandbytes."""
    return config.optimizer.name in _BITSANDBYTES


def build_optimizer(config: Config, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> Any:
    """Return the config's optimizer for those parameters that are trained.

    Settings that the config leaves open keep PyTorch's own defaults.

    Raises:
        ConfigError: an optimizer of bitsandbytes on anything but a CUDA GPU.
        MachineError: bitsandbytes is not installed.
    """
    chosen = config.optimizer.model_dump(exclude={"name"}, exclude_none=True)
    settings: dict[str, Any] = {"lr": config.train.learning_rate, **chosen}
    kind = _bitsandbytes(config, device) if is_bitsandbytes(config) else _CLASSES[config.optimizer.name]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.train.optimizer_in_backward:
        return InBackward(lambda own: kind(own, **settings), trained)
    return kind(trained, **settings)


def _bitsandbytes(config: Config, device: torch.device) -> type[torch.optim.Optimizer]:
    name = config.optimizer.name
    if device.type != "cuda":
        raise ConfigError(f"optimizer.name: {name} runs on a CUDA GPU only", "such as --device cuda, or take adamw")
    try:
        from bitsandbytes import optim  # type: ignore[import-not-found]
    except ImportError as error:
        raise MachineError(f"optimizer.name: {name} needs bitsandbytes: {error}", "pip install bitsandbytes") from None
    return getattr(optim, _BITSANDBYTES[name])  # type: ignore[no-any-return]
