"""Commands that start several training processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from vram_cli.errors import ConfigError

_LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "torch.distributed.run", "torch.distributed.launch")
_COUNTS = ("nproc-per-node", "nnodes", "num-processes", "num-machines", "num-gpus", "num-nodes")
"""Options of the launchers; each is also written with underscores."""


def refuse_several_processes(words: Sequence[str]) -> None:
    """Refuse a command whose launcher is told to start several processes that train together.

    Raises:
        ConfigError: it is.
    """
    for option, value in _options(_launcher_arguments(words)):
        count = value.rpartition(":")[2]  # --nnodes 1:4 is a range
        if option.replace("_", "-").lstrip("-") in _COUNTS and count.isdigit() and int(count) > 1:
            raise several_processes(f"{option} {value} starts {count} training processes or machines")


def several_processes(problem: str) -> ConfigError:
    """Return the error for a script that trains in several processes."""
    return ConfigError(problem, "vram measures scripts that train in one process; start it with one, on one GPU")


def _launcher_arguments(words: Sequence[str]) -> Iterator[str]:
    """Yield the words between a launcher and its script: options behind it are the script's own."""
    behind = itertools.dropwhile(lambda word: Path(word).name not in _LAUNCHERS, words)
    return itertools.takewhile(lambda word: not word.endswith(".py"), behind)


def _options(words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield options and their values, which are `--option value` or `--option=value`."""
    for word, following in itertools.pairwise([*words, ""]):
        if word.startswith("-"):
            option, equals, value = word.partition("=")
            yield option, value if equals else following
