"""One child process for all tests that do no harm to it: starting one costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vram_cli.config import Config, load_config
from vram_cli.probe import WorkerProbe


def small_config(*overrides: str) -> Config:
    """An MLP on synthetic MNIST under 64 MiB of the CPU's memory: fails for real within milliseconds."""
    return load_config(
        "mlp_mnist.yaml", ["device.name=cpu", "device.memory_limit=64MiB", "data.source=synthetic", *overrides]
    )


@pytest.fixture(scope="session")
def probe() -> Iterator[WorkerProbe]:
    with WorkerProbe(small_config()) as opened:
        yield opened
