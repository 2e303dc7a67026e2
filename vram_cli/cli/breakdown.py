"""`vram breakdown`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from vram_cli.cli import options


def breakdown(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    batch_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--batch-size", "-n", min=1, metavar="N", help="In place of the config's train.batch_size."),
    ] = None,
    device: options.DeviceName = None,
    gpu: options.GpuName = None,
    budget: options.Budget = None,
    overhead: options.Overhead = None,
    steps: options.Steps = None,
    by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--by", metavar="module", help="Also show which modules hold it, as a tree."),
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, metavar="N", help="Levels of that tree.")] = 3,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also draw memory over the step.")] = False,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="FILE", help="Write the timeline as PNG or SVG; needs matplotlib."),
    ] = None,
    snapshot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--snapshot", metavar="FILE", help="Predictions: write a snapshot for pytorch.org/memory_viz."),
    ] = None,
    download: options.Download = False,
    json: options.Json = False,
    save: options.Save = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show where the memory goes at the peak of a real training step, to the byte."""
    from vram_cli import api
    from vram_cli.cli.output import deliver
    from vram_cli.errors import ConfigError
    from vram_cli.report.progress import SearchProgress
    from vram_cli.report.saved import check_writable

    flags = {
        **options.place(device, gpu),
        "device.budget": budget,
        "device.overhead": overhead,
        "search.steps": steps,
    }
    settings = options.configure(config, overrides, flags, quiet=quiet)
    if by not in (None, "module"):
        raise ConfigError(f"--by: {by!r} is not something to group by", "use --by module")
    for path in filter(None, (save, plot, snapshot)):
        check_writable(path, force=force)
    with SearchProgress(quiet=quiet) as progress:
        result = api.breakdown(
            settings,
            batch_size=batch_size,
            detail=bool(by or timeline or plot),
            snapshot=snapshot,
            download=download,
            status=progress.status,
        )
    levels = depth if by else None
    deliver(result, json=json, save=save, force=force, depth=levels, timeline=timeline, plot=plot)
