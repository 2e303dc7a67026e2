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
    memory_limit: options.MemoryLimit = None,
    overhead: options.Overhead = None,
    steps: options.Steps = None,
    by: options.By = None,
    depth: options.Depth = 3,
    timeline: options.Timeline = False,
    plot: options.Plot = None,
    snapshot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--snapshot", metavar="FILE", help="Predictions: write a snapshot for pytorch.org/memory_viz."),
    ] = None,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show where the memory goes at the peak of a real training step, to the byte."""
    from vram_cli.cli.output import Files, deliver, deliver_failure
    from vram_cli.commands.breakdown import breakdown as run
    from vram_cli.errors import DoesNotFitError
    from vram_cli.records import Detail
    from vram_cli.report.progress import SearchProgress

    flags = {
        **options.place(device, gpu),
        "device.memory_limit": memory_limit,
        "device.overhead": overhead,
        "search.steps": steps,
    }
    settings = options.configure(config, overrides, flags, quiet=quiet)
    levels, form = options.levels(by, depth), options.chosen(format_name, options.Format, json=json)
    files = Files(save=save, report=report, plot=plot, snapshot=snapshot, force=force)
    files.check()
    try:
        with SearchProgress(quiet=quiet) as progress:
            result = run(
                settings,
                batch_size=batch_size,
                detail=Detail.MODULES if by or timeline or plot or save or report else Detail.ROWS,
                snapshot=snapshot,
                download=download,
                progress=progress,
            )
    except DoesNotFitError as error:
        deliver_failure(error, form)
        raise
    deliver(result, files, form, depth=levels, timeline=timeline)
