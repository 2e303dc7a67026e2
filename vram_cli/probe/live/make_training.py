"""The user's `make_training(n)`: its steps, its name, and the config of a search for it. Imports no torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from vram_cli.config import Config, ConfigSource, with_overrides
from vram_cli.errors import ConfigError
from vram_cli.user_lines import short_name

MakeTraining = Callable[[int], Any]
"""From a batch size to a training: an iterator whose every `next` is a step, or a function whose every call is one."""

_CELL = re.compile(r"ipykernel_\d+|^<ipython-input-")
"""In the name that ipykernel, and IPython before it, give to the code of a cell."""
_UNUSED = {"model": {"name": "mlp"}, "data": {"name": "mnist"}, "optimizer": {"name": "sgd"}}
"""What stands in sections about which the function decides."""
_DECIDED = ("model", "data", "loss", "optimizer", "train", "step", "mode", "precision", "script")


class LiveConfig(Config):
    """What concerns the search and the device of a live training; its other sections mean nothing."""

    @property
    def user_code(self) -> tuple[str, ...]:
        """The user's function."""
        return (self.source.name,)


class TrainingEndedError(Exception):
    """A training ended before it had run the steps of a trial."""


def live_config(make_training: MakeTraining, overrides: Sequence[str]) -> Config:
    """Return the config of a search: all that concerns the search and the device.

    Raises:
        ConfigError: an override is invalid, or concerns what the function decides.
    """
    name = name_of(make_training)
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key.partition(".")[0] in _DECIDED and key != "train.batch_size":
            raise ConfigError(f"{override}: {name} decides it", "leave it out, and change the function")
    config = LiveConfig.model_validate(_UNUSED)
    changed = with_overrides(config.with_source(ConfigSource(name=name)), overrides)
    return LiveConfig.model_validate(changed.model_dump(mode="json", exclude_unset=True)).with_source(changed.source)


def config_values(config: Config) -> dict[str, Any]:
    """Return what a record shows of a config: the function, and what concerns the search and the device."""
    values = config.model_dump(mode="json")
    train = {"batch_size": config.train.batch_size} if config.names_batch_size else {}
    return {"training": config.source.name, "train": train, "search": values["search"], "device": values["device"]}


def name_of(make_training: MakeTraining) -> str:
    """Return "make_training (train.py:12)", or "make_training (cell, line 3)" in a notebook."""
    function: Any = make_training
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    name = str(getattr(function, "__qualname__", type(function).__qualname__)).rpartition("<locals>.")[2]
    # An object that is called has the code of its class's method.
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if code is None:
        return name
    file, line = code.co_filename, code.co_firstlineno
    return f"{name} (cell, line {line})" if _CELL.search(file) else f"{name} ({short_name(file)}:{line})"


def steps_of(make_training: MakeTraining, batch_size: int, steps: int) -> Callable[[], None]:
    """Make a training, and return a function that runs its next step.

    Args:
        make_training: the user's function.
        batch_size: its argument.
        steps: the number of steps in all, for the message of a training that ends early.

    Raises:
        ConfigError: it returns neither an iterator nor a function.
    """
    training = make_training(batch_size)
    if isinstance(training, Iterator):
        iterator: Iterator[Any] = training
    elif callable(training) and not isinstance(training, type):
        iterator = iter(training, object())  # never equal: it ends by an exception only
    else:
        raise ConfigError(
            f"{name_of(make_training)} returned {_described(training)} for a batch size of {batch_size:,}",
            "let it `yield` after each step, or return a function that runs one step",
        )
    done = 0

    def run_next() -> None:
        nonlocal done
        try:
            next(iterator)
        except StopIteration:
            ended = f"it ended after {done} of {steps} steps of batch size {batch_size:,}"
            raise TrainingEndedError(f"{ended}; let it go on, such as by reading its data again") from None
        done += 1

    return run_next


def _described(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def with_device(config: Config, name: str) -> Config:
    """Return a config with another name of its device."""
    return config.model_copy(update={"device": config.device.model_copy(update={"name": name})})
