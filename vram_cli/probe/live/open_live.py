"""Open the probe of a live training: in forks of this process, or in this process if it has used the GPU."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from vram_cli.config import Config
from vram_cli.errors import ConfigError, MachineError
from vram_cli.probe.live.forked_worker import ForkedProcess
from vram_cli.probe.live.make_training import MakeTraining, with_device
from vram_cli.probe.live.probes import ForkProbe, InProcessProbe

_AS_A_FILE = "put the training into a file, and run `vram find-batch{} -- python FILE`"


class Ground(NamedTuple):
    """The ground of the trials."""

    device: str
    in_this_process: bool


@contextmanager
def open_live(
    make_training: MakeTraining,
    config: Config,
    *,
    deadline: float | None = None,
    **_: Any,
) -> Iterator[ForkProbe | InProcessProbe]:
    """Open a probe that runs a live training. Given the training, it is an `OpenProbe`.

    Args:
        make_training: the user's function.
        config: the search and the device.
        deadline: `time.monotonic()` value at which a running trial is stopped.

    Raises:
        ConfigError: the config asks for a prediction, or for times.
        MachineError: the device does not exist, or this process cannot be forked.
        WorkloadError: the training ended the process.
    """
    _refuse(config)
    device, in_this_process = ground_of(config.device.name)
    config = with_device(config, device)
    if not in_this_process:
        _import_what_tracking_needs()
        probe = ForkProbe(make_training, config, deadline=deadline)
        with probe:
            yield probe
        return
    current = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    try:
        yield InProcessProbe(make_training, config)
    finally:
        if current is not None:
            torch.cuda.set_device(current)


def ground_of(name: str) -> Ground:
    """Return the ground for the name of a device.

    This process is asked nothing that would use the GPU: after that, its forks cannot.

    Raises:
        MachineError: trials on the CPU need a fork, which is not to be had.
    """
    has_gpu_in_use = torch.cuda.is_initialized()
    if not hasattr(os, "fork"):
        forks = {"works": False, "has_gpu": torch.cuda.is_available(), "keeps_gpu": False}
    else:
        forks = _answer_of_a_fork()
    has_gpu = has_gpu_in_use or (forks["has_gpu"] if forks["keeps_gpu"] else torch.cuda.is_available())
    if name == "auto":
        name = "cuda" if has_gpu else "cpu"
    if name == "cpu" and not forks["works"]:
        reason = "has run a backward pass beside a GPU" if hasattr(os, "fork") else "runs on Windows"
        raise MachineError(
            f"device: cpu: trials on the CPU are forks of this process, which cannot be forked: it {reason}",
            _AS_A_FILE.format(" --device cpu"),
        )
    can_fork = forks["works"] and forks["keeps_gpu"] and not has_gpu_in_use
    return Ground(name, in_this_process=name != "cpu" and not (can_fork and name.startswith("cuda")))


def _refuse(config: Config) -> None:
    if config.device.gpu is not None:
        raise ConfigError(
            f"gpu: {config.device.gpu}: a prediction needs a process that has not used PyTorch yet, and this one has "
            "live objects",
            _AS_A_FILE.format(f" --gpu {config.device.gpu}"),
        )
    if config.search.objective == "throughput":
        raise ConfigError("search.objective: throughput needs a config", "leave it out for the largest batch")


def _answer_of_a_fork() -> dict[str, bool]:
    """Return whether PyTorch works in a fork of this process, and whether that may use the GPU."""
    fork = ForkedProcess(lambda: os.write(1, json.dumps(_in_a_fork()).encode()))
    text = fork.stdout.read()
    fork.wait()
    for pipe in (fork.stdin, fork.stdout, fork.stderr):
        pipe.close()
    answer: dict[str, bool] = json.loads(text) if text else {"works": False, "keeps_gpu": False, "has_gpu": False}
    return answer


def _in_a_fork() -> dict[str, bool]:
    try:
        torch.ones(1, requires_grad=True).sum().backward()
    except RuntimeError:  # "Unable to handle autograd's threading in combination with fork-based multiprocessing"
        return {"works": False, "keeps_gpu": False, "has_gpu": False}
    keeps_gpu = not torch.cuda._is_in_bad_fork()
    return {"works": True, "keeps_gpu": keeps_gpu, "has_gpu": keeps_gpu and torch.cuda.is_available()}


def _import_what_tracking_needs() -> None:
    """Import in this process what each of its forks would import anew."""
    import torch._dynamo  # noqa: F401 - a second
