"""A world in place of the child process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.commands.advise.worlds import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Return a function that makes the world in which everything happens from then on."""

    def make(**facts: Any) -> World:
        made = World(**facts)
        monkeypatch.setattr("vram_cli.commands.advise.trial_runner.WorkerProbe", made.probe)
        return made

    return make
