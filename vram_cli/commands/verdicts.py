"""Trials that say nothing about memory: their process was killed, or time or the computer's RAM ran out."""

from __future__ import annotations

from vram_cli.errors import CutShortError
from vram_cli.records import Measurement, Outcome

_NO_VERDICT = (Outcome.KILLED, Outcome.TIMED_OUT, Outcome.HOST_MEMORY)


def require_verdict(measurement: Measurement, device: str, hint: str = "run it again") -> None:
    """Raise if a trial says nothing about memory.

    Args:
        measurement: the trial.
        device: the name of its device.
        hint: the next step, unless the trial needs more time.

    Raises:
        CutShortError: the trial has no verdict.
    """
    if measurement.outcome not in _NO_VERDICT:
        return
    if measurement.outcome is Outcome.TIMED_OUT:
        hint = "give it more time with --set search.trial_timeout=SECONDS, or --time-limit if that is set"
    raise CutShortError(
        f"not measured: batch {measurement.batch_size:,} on {device}: {measurement.message}",
        f"this says nothing about its memory; {hint}",
    )
