"""`vram breakdown`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from vram_cli.cli import options
from vram_cli.errors import DoesNotFitError


@options.reads_config(
    "mode", "batch_size", "steps", *options.DEVICE_SETTINGS, *options.PARALLEL_SETTINGS, runs_scripts=True
)
def breakdown(
    load_config: options.LoadConfig,
    *,
    by: options.By = None,
    depth: options.Depth = 3,
    timeline: options.Timeline = False,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    plot: options.Plot = None,
    snapshot: Annotated[
        Path | None,
        options.output("--snapshot", metavar="FILE", help="For predictions: save a file for pytorch.org/memory_viz."),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show where the memory goes at the peak of one step, to the byte."""
    from vram_cli.cli.output import Files, deliver, show_failure
    from vram_cli.commands.breakdown import breakdown as run
    from vram_cli.records import Detail
    from vram_cli.report.progress import SearchProgress

    config = load_config()
    levels, form = options.levels(by, depth), options.output_format(format_name, options.Format, json=json)
    files = Files(save=save, report=report, plot=plot, snapshot=snapshot, force=force)
    files.check()
    try:
        with SearchProgress(quiet=quiet) as progress:
            result = run(
                config,
                detail=Detail.MODULES if by or timeline or plot or save or report else Detail.ROWS,
                snapshot=snapshot,
                download=download,
                progress=progress,
            )
    except DoesNotFitError as error:
        show_failure(error, form)
        raise
    deliver(result, files, form, depth=levels, timeline=timeline)
