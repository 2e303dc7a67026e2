"""How long work reports its progress."""

from __future__ import annotations

from vram_cli.records import Bracket, Measurement, ThroughputPoint


class Progress:
    """Receives what a command does while it runs. Every method does nothing; override the ones you need."""

    def status(self, text: str) -> None:
        """Report the current activity in a few words; the next call replaces it."""

    def note(self, text: str) -> None:
        """Report an intermediate result, to be kept in view."""

    def trial_started(self, batch_size: int, bracket: Bracket) -> None:
        """Report that a trial starts; `bracket` is what the search knows so far."""

    def trial_finished(self, measurement: Measurement, bracket: Bracket) -> None:
        """Report the result of a trial; `bracket` includes it."""

    def timed(self, point: ThroughputPoint) -> None:
        """Report the throughput of a batch size."""


SILENT = Progress()
"""Reports nothing."""
