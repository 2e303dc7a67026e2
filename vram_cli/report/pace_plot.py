"""How fast each size trains, below the memory that it takes: the second part of the picture of a search."""

from __future__ import annotations

from typing import Any

from vram_cli.records import Throughput
from vram_cli.report.words import number, per_second

_SPEED, _KNEE = "#116329", "#aa3377"


def draw_paces(axes: Any, memory: Any, throughput: Throughput) -> None:
    """Draw samples per second into `axes`, with the batch sizes of the `memory` above it.

    Sizes double from one to the next, so both get an axis on which doubling is a step.
    """
    paces = throughput.points
    middles = [pace.samples_per_second for pace in paces]
    spread = [
        [middle - pace.q25 for middle, pace in zip(middles, paces, strict=True)],
        [pace.q75 - middle for middle, pace in zip(middles, paces, strict=True)],
    ]
    sizes = [pace.batch_size for pace in paces]
    axes.errorbar(
        sizes,
        middles,
        spread,
        color=_SPEED,
        marker="o",
        markersize=4,
        capsize=3,
        label="median step; half of all within the bar",
    )
    marks = (("fastest", throughput.fastest_batch_size, _SPEED), ("knee", throughput.knee_batch_size, _KNEE))
    for name, size, colour in marks:
        label = f"{name}: {number(size)} ({per_second(throughput.at(size).samples_per_second)})"
        axes.axvline(size, color=colour, linestyle=":", label=label)
        memory.axvline(size, color=colour, linestyle=":")
    axes.set(ylim=(0, None), xlabel="batch size", ylabel="samples/s")
    axes.yaxis.set_major_formatter(lambda speed, _: f"{speed:,g}")
    axes.grid(alpha=0.3)
    right = max(memory.get_xlim()[1], sizes[-1])
    for each in (axes, memory):
        each.set_xscale("log", base=2)
        each.xaxis.set_major_formatter(lambda size, _: number(round(size)))
        each.set_xlim(sizes[0] / 1.2, right * 1.2)
