"""`vram show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vram_cli.cli import options


def show(  # noqa: PLR0917 - Typer makes a flag of each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result that was kept with --save.")],
    by: options.By = None,
    depth: options.Depth = 3,
    timeline: options.Timeline = False,
    plot: options.Plot = None,
    json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Draw a saved result again; needs no device."""
    from vram_cli.cli.output import deliver
    from vram_cli.report.plot import check_plot
    from vram_cli.report.saved import load

    levels = options.levels(by, depth)
    if plot is not None:
        check_plot(plot, force=force)
    deliver(load(file), json=json, save=None, force=force, depth=levels, timeline=timeline, plot=plot)
