"""The config's optimizer: a preset of PyTorch or bitsandbytes, or the user's factory, optionally run in backward."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch

from vram_cli.config import Config
from vram_cli.errors import REAL_TRIALS, ConfigError, MachineError, UnsupportedError
from vram_cli.workload.parallel import divided_optimizer
from vram_cli.workload.user_code import errors_from, instantiate, resolve

Parameters = list[torch.nn.Parameter]

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
    """Steps each parameter as soon as its gradient is complete, then frees the gradient: few gradients live together.

    As in PyTorch's tutorial "How to save memory by fusing the optimizer step into the backward pass". It has the
    methods of an optimizer that a training step calls.
    """

    def __init__(self, make: Callable[[Parameters], torch.optim.Optimizer], parameters: Parameters, key: str) -> None:
        self._optimizers = {parameter: make([parameter]) for parameter in parameters}
        self._key = key
        # A parameter keeps its hooks, and this object the parameters; Python cannot collect a cycle through a hook.
        this = weakref.proxy(self)
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(lambda grown: this._step(grown))  # noqa: PLW0108 - not bound

    @property
    def state(self) -> dict[torch.nn.Parameter, Any]:
        """The state of all parameters."""
        return {parameter: optimizer.state[parameter] for parameter, optimizer in self._optimizers.items()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The settings of all parameters, such as their learning rates, which may change between steps."""
        return [group for optimizer in self._optimizers.values() for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: no gradient is left."""

    def step(self) -> None:
        """Do nothing: every parameter was stepped in backward."""

    def _step(self, parameter: torch.Tensor) -> None:
        optimizer = self._optimizers[parameter]  # type: ignore[index]
        with errors_from(self._key):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def build_optimizer(config: Config, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> Any:
    """Return the config's optimizer for the parameters that require gradients.

    Settings that the config leaves out keep the optimizer's own defaults.

    Raises:
        ConfigError: an optimizer of bitsandbytes on anything but a CUDA GPU, or a factory that makes no optimizer.
        MachineError: bitsandbytes is not installed.
        Exception: any error of the factory, attributed to `optimizer.factory`.
    """
    make = _from_factory(config) if config.optimizer.factory else _preset(config, device)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.train.optimizer_in_backward:
        return InBackward(make, trained, optimizer_key(config))
    if config.parallel is not None and config.parallel.zero_redundancy_optimizer:
        return divided_optimizer(make, trained)
    return make(trained)


def refuse_unpredictable(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Refuse optimizers whose memory depends on values, which predictions do not compute; a hook before their steps.

    Raises:
        UnsupportedError: the optimizer is one of them.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UnsupportedError("torch.optim.LBFGS: values decide how many directions it keeps", REAL_TRIALS)


def optimizer_key(config: Config) -> str:
    """Return the key of the config to attribute errors of the optimizer's steps to; "" for a preset."""
    return f"optimizer.factory ({config.optimizer.factory})" if config.optimizer.factory else ""


def _preset(config: Config, device: torch.device) -> Callable[[Parameters], torch.optim.Optimizer]:
    name = str(config.optimizer.name)
    settings = config.optimizer.model_dump(exclude={"name"}, exclude_none=True)
    optimizer_class: Any = _bitsandbytes(name, device) if name in _BITSANDBYTES else _CLASSES[name]
    return lambda parameters: optimizer_class(parameters, lr=config.train.learning_rate, **settings)


def _from_factory(config: Config) -> Callable[[Parameters], torch.optim.Optimizer]:
    reference, key = str(config.optimizer.factory), "optimizer.factory"
    kwargs = config.optimizer.kwargs
    if _takes_lr(resolve(reference, key)):
        kwargs = {"lr": config.train.learning_rate, **kwargs}

    def make(parameters: Parameters) -> torch.optim.Optimizer:
        optimizer = instantiate(reference, key, kwargs, parameters)
        if not isinstance(optimizer, torch.optim.Optimizer):
            hint = "name a class of torch.optim.Optimizer, or a function that returns an optimizer"
            raise ConfigError(f"{key}: {reference} returns a {type(optimizer).__name__}, not an optimizer", hint)
        if callable(switch := getattr(optimizer, "train", None)):
            switch()  # schedule-free optimizers have a mode, as modules do, and refuse to step outside training
        return optimizer

    return make


def _takes_lr(factory: Any) -> bool:
    """Whether a factory accepts `lr`; if Python cannot tell its signature, assume that it does."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.name == "lr" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _bitsandbytes(name: str, device: torch.device) -> type[torch.optim.Optimizer]:
    if device.type != "cuda":
        raise ConfigError(f"optimizer.name: {name} runs on a CUDA GPU only", "use --device cuda, or adamw")
    try:
        from bitsandbytes import optim  # type: ignore[import-not-found]
    except ImportError as error:
        raise MachineError(f"optimizer.name: {name} needs bitsandbytes: {error}", "pip install bitsandbytes") from None
    return getattr(optim, _BITSANDBYTES[name])  # type: ignore[no-any-return]
