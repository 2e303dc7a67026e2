"""Memory checks of `vram compare`: which batch sizes, or which micro-batches of them, fit."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.commands.user_errors import user_error
from vram_cli.commands.verdicts import require_verdict
from vram_cli.compare.records import MemoryCheck
from vram_cli.probe import Probe
from vram_cli.records import Measurement, Outcome


def verdict(probe: Probe, batch_size: int) -> Measurement:
    """Return a measurement that says whether a batch size fits. A trial whose process was killed is run again.

    Raises:
        CutShortError: No trial ended by itself.
    """
    measurement = probe.measure(batch_size)
    if measurement.outcome is Outcome.KILLED:
        measurement = probe.measure(batch_size)
    hint = "run the same command to go on, or leave this size out of --batch-sizes"
    require_verdict(measurement, probe.info.device.name, hint)
    return measurement


def raise_user_error(probe: Probe, measurement: Measurement) -> None:
    """Raise the error of the user's own code, if that is why a trial failed.

    A failure at one sample is checked with two, since batch norm rejects a single sample.
    """
    if measurement.outcome is Outcome.ERROR and measurement.batch_size == 1:
        measurement = probe.measure(2)
    if measurement.outcome is Outcome.ERROR:
        raise user_error(measurement)


def check_micro_batches(probe: Probe, failed: Measurement) -> MemoryCheck:
    """Return the smallest number of micro-batches that fits, out of 2, 4, 8 and so on."""
    phase = f" in {failed.phase.value}" if failed.phase else ""
    check = MemoryCheck(
        batch_size=failed.batch_size, fits=False, peak_bytes=0, message=failed.outcome.value.replace("_", " ") + phase
    )
    micro_batches = 2
    while micro_batches <= failed.batch_size:
        micro_batch_size = -(-failed.batch_size // micro_batches)
        measurement = verdict(probe, micro_batch_size)
        if measurement.fits:
            return replace(
                check,
                micro_batch_size=micro_batch_size,
                micro_batches=micro_batches,
                peak_bytes=measurement.peak_reserved_bytes,
            )
        micro_batches *= 2
    return check
