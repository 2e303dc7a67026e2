"""Trials of scripts on each ground, by a server that has imported PyTorch for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.scripts.runs import Job, Run, measure_config, run
from tests.scripts.server import call, start
from tests.trainings.conftest import locked
from vram_cli import load_config
from vram_cli.probe.environment import environment_of
from vram_cli.records import Detail, Measurement
from vram_cli.virtual_gpu import obstacle

USERS, YAML = Path(__file__).parent / "users", Path(__file__).parent / "yaml"
CPU = ("device.name=cpu", "device.memory_limit=256MiB")
T4 = ("device.gpu=t4", "device.memory_limit=512MiB")


class RunScript(Protocol):
    def __call__(
        self,
        script: str,
        *words: str,
        launcher: Sequence[str] = (sys.executable,),
        sizes: Sequence[int] = (),
        detail: Detail = Detail.NONE,
        overrides: Sequence[str] = (),
        search: bool = False,
        folder: Path | None = None,
    ) -> Run:
        """Run trials of a script: the name of a file of `users`, or its text, or a command if `words` has one."""
        ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[Sequence[str]], Path]:
    """Return a function that returns the socket of the server for a device, which the processes of xdist share."""
    base, is_alone = tmp_path_factory.getbasetemp(), worker_id == "master"
    folder, owner = (base, os.getpid()) if is_alone else (base.parent, os.getppid())

    def open_server(device: Sequence[str]) -> Path:
        path = folder / f"{device[0].replace('=', '-')}.socket"
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                config = load_config(None, device, ("python", "train.py", "{n}"))
                start(path, environment_of(config, calibrated=False), owner)
        return path

    return open_server


def _run_script(server: Callable[[Sequence[str]], Path], device: Sequence[str], home: Path) -> RunScript:
    def run_script(
        script: str,
        *words: str,
        launcher: Sequence[str] = (sys.executable,),
        folder: Path | None = None,
        **options: Any,
    ) -> Run:
        place = folder or home
        is_text = "\n" in script
        if is_text:
            (place / "train.py").write_text(script)
        elif not (place / script).exists():
            shutil.copy(USERS / script, place)
        name = "train.py" if is_text else script
        overrides = (*device, *options.pop("overrides", ()))
        job = Job(place, (*launcher, name, *words), overrides, is_virtual=device is T4, **options)
        return call(server(device), run, job)

    return run_script


@pytest.fixture
def measured_config(server: Callable[[Sequence[str]], Path]) -> Callable[..., Measurement]:
    """Return a function that measures a config of the folder `yaml` on a device, with rows."""

    def measure(name: str, device: Sequence[str], size: int, *overrides: str) -> Measurement:
        function = partial(measure_config, is_virtual=device is T4)
        return call(server(device), function, YAML / name, (*device, *overrides), size)

    return measure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder for a script, which nothing else uses."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def on_cpu(server: Callable[[Sequence[str]], Path], folder: Path) -> RunScript:
    """Return a function that runs trials on the CPU."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a limit of the CPU's memory needs Linux")
    return _run_script(server, CPU, folder)


@pytest.fixture
def on_t4(server: Callable[[Sequence[str]], Path], folder: Path) -> RunScript:
    """Return a function that runs trials on the virtual GPU."""
    if reason := obstacle():
        pytest.skip(f"no virtual GPU here: {reason}")
    return _run_script(server, T4, folder)
