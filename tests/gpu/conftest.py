"""The tests here run on this machine's GPU; without one, on a virtual GPU, which every process of theirs preloads.

They take the path of a real GPU in both cases: nothing in them is a prediction unless they ask for one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vram_cli.hardware.gpus import find_gpu
from vram_cli.virtual_gpu import environment, obstacle

torch = pytest.importorskip("torch")

VIRTUAL = find_gpu("rtx-4090")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if (marker := item.get_closest_marker("silicon")) and not torch.cuda.is_available():
        pytest.skip(f"needs a real GPU: {marker.args[0]}")


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[None]:
    """A GPU for all processes that the module's tests start. This process opens none: its memory would count too."""
    if torch.cuda.is_available():
        yield
        return
    if reason := obstacle(VIRTUAL):
        pytest.skip(f"there is no GPU here, and no virtual one: {reason}")
    variables = environment(VIRTUAL, memory_bytes=VIRTUAL.memory_bytes, context_bytes=VIRTUAL.context_bytes)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
