"""The tests here run on this machine's GPU; without one, on a virtual GPU, which every process of theirs preloads.

Both take the path of a real GPU: nothing is a prediction unless a test asks for one. On a real GPU, the memory of tests
that run at the same time would count as that of other processes, which a virtual machine does not even list; so the
modules take turns. For the same reason this process opens no GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import environment, obstacle

torch = pytest.importorskip("torch")

VIRTUAL = find_gpu("rtx-4090")


class Driver(NamedTuple):
    """The GPU as the driver reports it to PyTorch, without vram."""

    name: str
    memory_bytes: int
    count: int


def pytest_runtest_setup(item: pytest.Item) -> None:
    if (marker := item.get_closest_marker("silicon")) and not torch.cuda.is_available():
        pytest.skip(f"needs a real GPU: {marker.args[0]}")


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[None]:
    """A GPU for every process that the module's tests start."""
    if torch.cuda.is_available():
        with _turn():
            yield
        return
    if reason := obstacle(VIRTUAL):
        pytest.skip(f"there is no GPU here, and no virtual one: {reason}")
    variables = environment(VIRTUAL, memory_bytes=VIRTUAL.memory_bytes, context_bytes=VIRTUAL.context_bytes)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def driver(gpu: None) -> Driver:
    script = (
        "import json, torch\n"
        "free, total = torch.cuda.mem_get_info(0)\n"
        "print(json.dumps([torch.cuda.get_device_name(0), total, torch.cuda.device_count()]))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    return Driver(*json.loads(done.stdout))


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other module of this user's tests is using the GPU; on Windows, run the tests without xdist."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with Path(tempfile.gettempdir(), f"vram-gpu-tests-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
