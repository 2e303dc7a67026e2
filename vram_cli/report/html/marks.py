"""The chart of trials: peak memory over batch size, with the line that no trial may cross."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vram_cli.records import Device, Measurement
from vram_cli.report.html.scales import Tick, byte_ticks, count_ticks, percent
from vram_cli.report.words import number, outcome_label
from vram_cli.units import format_bytes

_HEADROOM = 108
"""In percent: the top above the limit, and the right edge beyond the largest size."""


class Mark(NamedTuple):
    """One trial."""

    x: str
    y: str
    kind: str
    """"fits", "thrashes" or "fails"."""
    label: str
    wanted: str
    """Where it would have been with what it asked for: not below the limit, at most at the top; "" where nobody
    can tell."""


class Marks(NamedTuple):
    """All that is drawn of the trials."""

    marks: list[Mark]
    sizes: list[Tick]
    ticks: list[Tick]
    limit: Tick
    left_out: int
    """Trials that left no peak, such as a killed one: they are in the table only."""


def trials_chart(trials: Sequence[Measurement], device: Device) -> Marks:
    """Return where everything is drawn. Both axes begin at zero: memory grows along a line, and it shows."""
    drawn = [trial for trial in trials if trial.peak_reserved_bytes]
    ceiling = _above(max([device.capacity_bytes, *(trial.peak_reserved_bytes for trial in drawn)]))
    right = _above(max((trial.batch_size for trial in drawn), default=1))
    return Marks(
        marks=[_mark(trial, device, right, ceiling) for trial in drawn],
        sizes=[Tick(percent(size, right), number(size)) for size in count_ticks(right)],
        ticks=[Tick(percent(ceiling - size, ceiling), format_bytes(size)) for size in byte_ticks(ceiling)],
        limit=Tick(percent(ceiling - device.capacity_bytes, ceiling), _limit(device)),
        left_out=len(trials) - len(drawn),
    )


def _above(value: int) -> int:
    return max(value * _HEADROOM // 100, value + 1)


def _mark(trial: Measurement, device: Device, right: int, ceiling: int) -> Mark:
    kind = "thrashes" if trial.thrashing else "fits" if trial.fits else "fails"
    label = f"{number(trial.batch_size)}: {outcome_label(trial)}, {format_bytes(trial.peak_reserved_bytes)}"
    wanted = ""
    if trial.requested_bytes is not None and trial.held_bytes is not None:
        # Where pieces that are free do not add up to what was asked for, tensors alone would have fitted.
        top = max(trial.held_bytes + trial.requested_bytes, device.capacity_bytes)
        wanted = percent(max(ceiling - top, 0), ceiling)
    y = percent(ceiling - trial.peak_reserved_bytes, ceiling)
    return Mark(percent(trial.batch_size, right), y, kind, label, wanted)


def _limit(device: Device) -> str:
    size = format_bytes(device.capacity_bytes)
    return f"{size} in all" if device.memory_limit_bytes is None else f"budget of {size}"
