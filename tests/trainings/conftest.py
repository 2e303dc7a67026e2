"""Measurements on each ground, made once: those on the virtual GPU in a process of their own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainings.grounds import VIRTUAL, Result, measure, read_virtual
from tests.trainings.trainings import TRAININGS
from tests.virtual_gpu.preloaded import preloaded_environment, run_preloaded
from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import obstacle

Measured = Callable[[str, str], Result]


@pytest.fixture(scope="session")
def virtual(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[], dict[str, Result]]:
    """Return a function that returns the measurements on the virtual GPU, which the processes of xdist share."""
    base = tmp_path_factory.getbasetemp()
    file = (base if worker_id == "master" else base.parent) / "virtual-trainings.json"

    def read() -> dict[str, Result]:
        with locked(file.with_suffix(".lock")):
            if not file.exists():
                output = run_preloaded("tests.trainings.trainings", preloaded_environment(find_gpu("t4")))
                file.write_text(json.dumps(output))
        return read_virtual(json.loads(file.read_text()))

    return read


@pytest.fixture
def measured(virtual: Callable[[], dict[str, Result]], monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Return a function that measures a training of `TRAININGS` by its name on a ground."""
    monkeypatch.setattr("vram_cli.probe.devices.cpu.ENFORCED", False)

    def result(name: str, ground: str) -> Result:
        if ground != VIRTUAL:
            return measure(TRAININGS[name], ground)
        if reason := obstacle():
            pytest.skip(f"no virtual GPU here: {reason}")
        return virtual()[name]

    return result


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
