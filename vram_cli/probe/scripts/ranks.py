"""Commands that start several training processes: how many, and the command of the first of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vram_cli.errors import ConfigError
from vram_cli.probe.scripts.interpreter import is_python

_TORCHRUN = ("torchrun", "torch.distributed.run", "torch.distributed.launch")
_ACCELERATE = ("accelerate", "accelerate-launch", "accelerate.commands.launch")
_OTHERS = ("deepspeed",)
_PER_NODE, _NODES, _TOTAL = "nproc-per-node", "nnodes", "num-processes"
_COUNTS = {_PER_NODE, _NODES, _TOTAL, "num-machines", "num-gpus", "num-nodes"}
"""Options of the launchers that count; each is also written with underscores."""
_WITHOUT_VALUE = {
    "standalone",
    "m",
    "module",
    "no-python",
    "run-path",
    "use-env",
    "virtual-local-rank",
    "multi-gpu",
    "cpu",
    "use-fsdp",
    "use-deepspeed",
    "use-parallelism-config",
    "same-network",
    "quiet",
    "q",
    "debug",
    "fsdp-offload-params",
}
"""Options that take no value (torch/distributed/run.py, accelerate/commands/launch.py)."""


@dataclass(frozen=True)
class Launch:
    """A launcher in a command: its options, and what it starts.

    Attributes:
        before: the words before the options.
        options: each with its value, which is "" for those that take none.
        target: the script or module with its arguments.
    """

    before: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    target: tuple[str, ...]

    @property
    def launcher(self) -> str:
        """The name of the launcher."""
        return Path(self.before[-1]).name if self.before[-1] != "launch" else "accelerate"

    def has(self, *names: str) -> bool:
        """Return whether one of some options is there."""
        return any(_plain(option) in names for option, _ in self.options)

    def count(self, name: str) -> int:
        """Return the value of an option that counts; 1 without it."""
        values = [value.rpartition(":")[2] for option, value in self.options if _plain(option) == name]
        return int(values[-1]) if values and values[-1].isdigit() else 1  # --nnodes 1:4 is a range


def launch_in(words: Sequence[str]) -> Launch | None:
    """Return the launcher of a command; None if it names none."""
    names = (*_TORCHRUN, *_ACCELERATE, *_OTHERS)
    start = next((place for place, word in enumerate(words) if Path(word).name in names), None)
    if start is None or (start and not _starts_program(words[:start])):
        return None
    start += 2 if [*words[start + 1 : start + 2]] == ["launch"] else 1
    options, rest = [], list(words[start:])
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if not equals and _plain(option) not in _WITHOUT_VALUE and rest:
            value = rest.pop(0)
        options.append((option, value))
    return Launch(tuple(words[:start]), tuple(options), tuple(rest))


def ranks_of(words: Sequence[str]) -> tuple[int, int]:
    """Return the processes that a command starts to train together, of all machines and of one.

    Raises:
        ConfigError: its launcher is not known well enough.
    """
    launch = launch_in(words)
    if launch is None:
        return 1, 1
    if launch.launcher in _OTHERS:
        _refuse_counts(launch)
    if launch.launcher in _TORCHRUN:
        return launch.count(_PER_NODE) * launch.count(_NODES), launch.count(_PER_NODE)
    return launch.count(_TOTAL), max(launch.count(_TOTAL) // launch.count("num-machines"), 1)


def check_one_machine(words: Sequence[str]) -> None:
    """Check that a command, which is to run as it is, starts processes of this machine only.

    Raises:
        ConfigError: it waits for other machines, or its launcher is not known well enough.
    """
    launch = launch_in(words)
    if launch is None:
        return
    ranks, local = ranks_of(words)
    if ranks > local:
        raise ConfigError(
            f"the command trains on {ranks // local} machines, and this is one of them",
            "let it train on this machine alone, or predict for all of them with --gpu NAME",
        )


def first_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return the command of the first of the processes that a command starts, which trains as if all were there.

    Raises:
        ConfigError: it does not say how many there are.
    """
    launch = launch_in(words)
    if launch is None:
        return tuple(words)
    for option, value in launch.options:
        if _plain(option) == _PER_NODE and not value.isdigit():
            raise ConfigError(
                f"{option} {value}: the processes depend on the machine, and a prediction has none",
                f"write how many there are: {option} 8",
            )
    if launch.launcher in _TORCHRUN:
        return tuple(_python_command(launch))
    if launch.count(_TOTAL) == 1:
        return tuple(words)
    counts = {_TOTAL: "1", "num-machines": "1"}
    options = [(option, counts.get(_plain(option), value)) for option, value in launch.options]
    kept = (f"{option}={value}" if value else option for option, value in options if _plain(option) != "multi-gpu")
    return (*launch.before, *kept, *launch.target)


def variables_of_rank(ranks: int, local_ranks: int, rank: int = 0) -> dict[str, str]:
    """Return the variables that torchrun sets for a process (torch/distributed/elastic/agent/server/api.py)."""
    groups, local_rank = ranks // local_ranks, rank % local_ranks
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "ROLE_RANK": str(rank),
        "GROUP_RANK": str(rank // local_ranks),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(local_ranks),
        "ROLE_WORLD_SIZE": str(ranks),
        "GROUP_WORLD_SIZE": str(groups),
        "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }


def several_processes(problem: str) -> ConfigError:
    """Return the error for a script that trains in processes that vram cannot follow."""
    return ConfigError(problem, "start one process for each rank by torchrun: -- torchrun --nproc-per-node 2 train.py")


def _starts_program(before: Sequence[str]) -> bool:
    """Return whether a launcher behind these words is started by them: as a module of Python, or by `env`."""
    return before[-1] == "-m" or "=" in before[-1] or Path(before[-1]).name in ("env", "run", "exec")


def _python_command(launch: Launch) -> Iterator[str]:
    """Yield the words by which torchrun starts each process."""
    program = launch.before[-1]
    is_module = launch.before[-2:-1] == ("-m",)
    yield from launch.before[: -2 if is_module else -1]
    if not launch.has("no-python"):
        if not is_module:
            yield _python_beside(program)
        if launch.has("m", "module"):
            yield "-m"
    yield from launch.target[:1]
    if program == "torch.distributed.launch" and not launch.has("use-env"):
        yield "--local-rank=0"
    yield from launch.target[1:]


def _python_beside(program: str) -> str:
    """Return the Python of a console script's environment, which pip installs beside it."""
    path = shutil.which(program)
    python = os.path.join(os.path.dirname(path), "python") if path else ""  # noqa: PTH118, PTH120 - links are kept
    return python if is_python(python) and os.access(python, os.X_OK) else "python"


def _refuse_counts(launch: Launch) -> None:
    for option, value in launch.options:
        count = value.rpartition(":")[2]
        if _plain(option) in _COUNTS and count.isdigit() and int(count) > 1:
            raise several_processes(f"{launch.launcher} {option} {value} starts processes that vram does not know")


def _plain(option: str) -> str:
    return option.lstrip("-").replace("_", "-")
