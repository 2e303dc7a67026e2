"""Golden files: output is compared with `tests/golden/NAME.txt`, which `pytest --overwrite` rewrites.

Tests and their processes ignore the calibrations of the user who runs them. `pytest --fast` starts no Python process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("vram", deadline=None)  # a busy machine is no failure
settings.register_profile("fast", settings.get_profile("vram"), max_examples=10)
settings.load_profile("vram")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="skip each test as soon as it starts a Python process")
    parser.addoption("--overwrite", action="store_true", help="rewrite golden files instead of comparing with them")
    parser.addoption(
        "--overwrite-measured", action="store_true", help="also measure the outputs in README and docs again"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Before test modules are imported, because some copy the environment.
    folder = os.environ["VRAM_CONFIG_DIR"] = tempfile.mkdtemp(prefix="vram-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torchvision") and (reason := _torchvision_error()):
        pytest.skip(reason)


@cache
def _torchvision_error() -> str:
    try:
        import torchvision  # noqa: F401 - tests the import
    except (ImportError, OSError, RuntimeError) as error:  # built for another PyTorch
        return f"torchvision does not load: {error}"
    return ""


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.getoption("--fast"):
        from vram_cli.probe.worker_process import WorkerProcess

        settings.load_profile("fast")
        start = subprocess.Popen.__init__

        def start_or_skip(process: object, command: Any, *arguments: Any, **options: Any) -> None:
            if Path(command[0]).name.startswith(("python", "vram")):  # programs such as `uname` are fast
                _skip()
            start(process, command, *arguments, **options)

        subprocess.Popen.__init__ = start_or_skip
        WorkerProcess.__init__ = _skip


def _skip(*_: object, **__: object) -> None:
    pytest.skip("starts a Python process")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """Return a function that takes a name and an output, and returns the content of the golden file."""

    def read(name: str, output: str) -> str:
        path = GOLDEN / (name if name.endswith((".html", ".md")) else f"{name}.txt")
        if request.config.getoption("--overwrite"):
            path.write_text(output, encoding="utf-8")
        return path.read_text(encoding="utf-8")

    return read
