"""Where a workload runs: cuda, cpu, simulated; the child process; which exception is which outcome."""

from __future__ import annotations

from typing import Protocol

from vram_cli.probe.client import WorkerProbe
from vram_cli.records import Measurement

__all__ = ["Probe", "WorkerProbe"]


class Probe(Protocol):
    """The one seam between the search and the world; tests put a fake here."""

    def measure(self, batch_size: int) -> Measurement:
        """Run a batch size and say how it went."""
        ...
