"""Training scripts: the batch size that is meant, and the options that hold for them."""

from __future__ import annotations

from vram_cli.config import Config
from vram_cli.errors import ConfigError
from vram_cli.probe.environment import predicts_ranks
from vram_cli.records import RunInfo

_REFUSED = {
    "with_eval": (
        "a script's own validation is measured once, at its largest training batch",
        "leave the option out; the answer has a line about validation",
    ),
    "download": ("a script loads its data itself", "run the script once by hand, so that it downloads them"),
    "snapshot": (
        "a snapshot is not written of a script",
        "call torch.cuda.memory._record_memory_history() in the script itself, on a GPU",
    ),
    "effective_batch": (
        "a script accumulates gradients itself",
        "find the largest micro-batch with `vram find-batch`, and set the script's own accumulation to reach yours",
    ),
}
"""Options that do not apply to a script: the reason and the way out."""


def refuse_for_scripts(config: Config, **options: object) -> None:
    """Refuse options that do not apply to a script, by the names of their parameters.

    Raises:
        ConfigError: the config has a script, and one of the options is set.
    """
    for name, value in options.items() if config.script is not None else ():
        if value:
            reason, hint = _REFUSED[name]
            raise ConfigError(f"--{name.replace('_', '-')}: {reason}", hint)


def require_named_size(config: Config, batch_size: int | None = None) -> None:
    """Refuse to run a script whose command has {n} if no batch size is named.

    Raises:
        ConfigError: the config has such a script, and names no batch size.
    """
    script = config.script
    if script is not None and script.takes_batch_size and not (batch_size or config.names_batch_size):
        raise ConfigError("the command has {n}, and no batch size is given", "give one with -n N, such as -n 64")


def size_of(config: Config, run: RunInfo) -> int:
    """Return the batch size to run: that of the config, or else the script's own.

    Raises:
        ConfigError: neither is known.
    """
    size = configured_size(config, run)
    if size is None:
        raise ConfigError("the script's batch size is not known: its loader has none", "give one with -n N")
    return size


def configured_size(config: Config, run: RunInfo) -> int | None:
    """Return the batch size for which a training is written; None if a script does not show it."""
    if config.script is None or config.names_batch_size:
        return config.train.batch_size
    return run.script.batch_size if run.script else None


def starting(config: Config) -> str:
    """Return what happens before the first trial, for `Progress.status`."""
    if config.script is not None:
        return "running the script once, to see what it does"
    if config.parallel is not None and not predicts_ranks(config):
        return f"starting the worker processes of {config.ranks} ranks"
    return "starting the worker process"
