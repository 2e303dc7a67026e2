"""The interface through which commands report their progress."""

from __future__ import annotations

from vram_cli.records import Bracket, Measurement, ThroughputPoint


class Progress:
    """Receives the progress of a command. Every method does nothing; override the ones you need."""

    def status(self, text: str) -> None:
        """Report the current activity in a few words; the next call replaces it."""

    def note(self, text: str) -> None:
        """Report an intermediate result, which stays visible."""

    def trial_started(self, batch_size: int, bracket: Bracket) -> None:
        """Report the start of a trial; `bracket` is the state of the search before it."""

    def trial_finished(self, measurement: Measurement, bracket: Bracket) -> None:
        """Report the result of a trial; `bracket` includes it."""

    def timed(self, point: ThroughputPoint) -> None:
        """Report the throughput of a batch size."""


SILENT = Progress()
"""Reports nothing."""
