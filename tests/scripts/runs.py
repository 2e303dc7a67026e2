"""Run scripts for tests, in a process for each: trials of chosen sizes, or a search."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from vram_cli import find_batch, load_config
from vram_cli.config import Config
from vram_cli.errors import VramError, WorkloadError
from vram_cli.probe.messages import Ready, RunTrial
from vram_cli.probe.process_tree import adopt_orphans
from vram_cli.records import Detail, FindBatchResult, Measurement, Phase, RunInfo
from vram_cli.virtual_gpu.attached import detach_children

_IMPORTED = ("numpy", "torch.optim", "torch._dynamo", "vram_cli.probe.scripts.script_trial")


@dataclass(frozen=True)
class Refusal:
    """An error for the user: exceptions do not travel between processes."""

    kind: str
    message: str
    hint: str
    traceback: str


@dataclass
class Run:
    """What the trials of a script came to.

    Attributes:
        ready: what its rehearsal found; None if it was refused.
        trials: a measurement per size.
        refusal: the error that ended it.
        printed: what the script printed, to both streams.
        changes: what differs in the process that ran the trials.
        children: processes that are left of them.
        result: the answer of a search.
    """

    ready: Ready | None = None
    trials: list[Measurement] = field(default_factory=list)
    refusal: Refusal | None = None
    printed: str = ""
    changes: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    result: FindBatchResult | None = None


@dataclass(frozen=True)
class Job:
    """Trials to run.

    Attributes:
        folder: the working folder.
        command: the words after `--`.
        overrides: of the config, such as "search.steps=2".
        sizes: batch sizes to try.
        search: whether to search for the largest one.
    """

    folder: Path
    command: Sequence[str]
    overrides: Sequence[str]
    sizes: Sequence[int] = ()
    detail: Detail = Detail.NONE
    is_virtual: bool = False
    search: bool = False


def prepare() -> None:
    """Import what most scripts do, as a worker process that has run one."""
    detach_children()
    for name in _IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()  # or the collections of forks would copy all objects


def run(job: Job) -> Run:
    """Run trials of a script in this process, which is for that alone."""
    from vram_cli.probe.scripts.script_trials import ScriptTrials

    adopt_orphans()
    os.chdir(job.folder)
    answer = Run()
    with _printed_to(job.folder.with_name(f"{job.folder.name}.txt"), answer):
        try:
            config = load_config(None, job.overrides, tuple(job.command))
            trials = ScriptTrials(config, is_virtual=job.is_virtual)
            answer.ready, before = trials.ready, _state()
            for size in job.sizes:
                trial = RunTrial(batch_size=size, detail=job.detail)
                answer.trials.append(trials.run(trial, lambda _: None).measurement)
            if job.search:
                answer.result = find_batch(config, open_probe=lambda *_, **__: _opened(config, trials))
            answer.changes = [name for name, value in _state().items() if value != before[name]]
            answer.children = [str(process) for process in psutil.Process().children(recursive=True)]
        except VramError as error:
            trace = error.traceback if isinstance(error, WorkloadError) else ""
            answer.refusal = Refusal(type(error).__name__, error.message, error.hint, trace)
    return answer


def measure_config(file: Path, overrides: Sequence[str], size: int, *, is_virtual: bool) -> Measurement:
    """Measure a config in this process, with rows."""
    from vram_cli.probe.worker.trials import open_trials
    from vram_cli.workload import add_import_path

    add_import_path(file.parent)
    trials = open_trials(load_config(file, overrides), download=False, virtual=is_virtual)
    done: Any = trials.run(RunTrial(batch_size=size, detail=Detail.ROWS), _ignore)
    measurement: Measurement = done.measurement
    return measurement


@contextmanager
def _opened(config: Config, trials: Any) -> Iterator[ScriptProbe]:
    yield ScriptProbe(config, trials)


class ScriptProbe:
    """A probe that runs the trials of a script in this process."""

    def __init__(self, config: Config, trials: Any) -> None:
        ready = trials.ready
        self._trials = trials
        self.info = RunInfo(
            config_name="script",
            config=config.model_dump(mode="json"),
            device=ready.device,
            data=ready.data,
            versions=ready.versions,
            script=ready.script,
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        done: Measurement = self._trials.run(RunTrial(batch_size=batch_size, detail=detail), _ignore).measurement
        return done

    confirm = measure


def _ignore(_: Phase) -> None:
    pass


_STREAMS: tuple[Callable[[], Any], ...] = (lambda: sys.stdout, lambda: sys.stderr)


@contextmanager
def _printed_to(file: Path, answer: Run) -> Iterator[None]:
    """Keep what this process and its children print in a file, and give them an empty standard input."""
    with file.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        yield
        for stream in _STREAMS:
            stream().flush()
    answer.printed = file.read_text(errors="replace")


def _state() -> dict[str, Any]:
    """Return facts of this process that no trial may change."""
    import torch

    return {
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "sys.argv": list(sys.argv),
        "sys.path": list(sys.path),
        "modules": {name for name in sys.modules if not name.startswith(("vram_cli", "torch"))},
        "__main__": sys.modules["__main__"],
        "random state": torch.random.get_rng_state().tolist(),
        "default dtype": torch.get_default_dtype(),
        "CUDA": torch.cuda.is_initialized(),
        "files": len([*Path("/proc/self/fd").iterdir()]),
        "threads": len([*Path("/proc/self/task").iterdir()]),
    }
