"""Memory that grows from step to step, in words."""

from __future__ import annotations

from vram_cli.records import Device, Growth, Measurement
from vram_cli.report import document as doc
from vram_cli.report.words import count, number, one_line, place
from vram_cli.units import format_bytes


def growth_lines(trial: Measurement | None, device: Device) -> tuple[doc.Line, ...]:
    """Return a line on the memory that a trial gains per step; none if it does not grow."""
    if trial is None or trial.growth is None:
        return ()
    size = number(trial.batch_size)
    return (("Memory grows:", f"{growth_words(trial.growth)}; batch {size} {until_full(trial, device)}"),)


def growth_words(growth: Growth) -> str:
    """Return what stays per step, and where it comes from."""
    by = f" by {', '.join(map(one_line, growth.modules))}" if growth.modules else ""
    origin = f"allocated {place(growth.phase)}{by}, " if growth.phase else ""
    stays = "kept in reference cycles until Python collects garbage" if growth.is_garbage else "never freed"
    return f"by {format_bytes(growth.bytes_per_step)} per step, {origin}{stays}"


def until_full(trial: Measurement, device: Device) -> str:
    """Return when a trial that grows runs out of memory, as a predicate: "runs out after about 12 steps"."""
    rate = max(trial.growth.bytes_per_step, 1) if trial.growth else 1
    free = max(device.allocator_bytes - trial.peak_reserved_bytes, 0)
    return f"runs out of memory after about {count(trial.steps + free // rate, 'step')}"
