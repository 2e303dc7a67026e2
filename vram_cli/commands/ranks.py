"""A command under torchrun: rank 0 runs it, and the others serve it."""

from __future__ import annotations

import os
from collections.abc import Callable

from vram_cli.probe.ranks.launch import launch_of


def launched_ranks() -> int | None:
    """Return how many ranks torchrun has started; None if this process is not one of several."""
    launch = launch_of(os.environ)
    return None if launch is None else launch.ranks


def run_as_rank(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; in all ranks but the first of a launch, serve that one instead."""
    launch = launch_of(os.environ)
    if launch is None:
        return command()
    from vram_cli.probe.ranks.launched_ranks import rank_zero, serve_rank_zero

    if launch.rank > 0:
        serve_rank_zero(launch)
        return 0
    with rank_zero(launch):
        return command()
