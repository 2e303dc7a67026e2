"""One worker process for all tests that leave it running: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vram_cli.config import Config, load_config
from vram_cli.probe import WorkerProbe


def small_config(*overrides: str) -> Config:
    """Return an MLP on synthetic MNIST under 64 MiB of CPU memory: it runs out of memory within milliseconds."""
    return load_config(
        "mlp_mnist.yaml", ["device.name=cpu", "device.memory_limit=64MiB", "data.source=synthetic", *overrides]
    )


@pytest.fixture(scope="session")
def probe() -> Iterator[WorkerProbe]:
    with WorkerProbe(small_config()) as probe:
        yield probe
