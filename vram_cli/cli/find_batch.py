"""`vram find-batch`."""

from __future__ import annotations

from typing import Annotated

import typer

from vram_cli.cli import options
from vram_cli.errors import DoesNotFitError


@options.reads_config(
    "mode",
    "steps",
    *options.DEVICE_SETTINGS,
    *options.PARALLEL_SETTINGS,
    "objective",
    "max_batch_size",
    "no_dataset_limit",
    "time_limit",
    "tolerance",
    "only_multiples_of",
    "multiple_of",
    "margin",
    runs_scripts=True,
)
def find_batch(
    load_config: options.LoadConfig,
    *,
    with_eval: Annotated[
        bool,
        options.option("--with-eval", help="Also find the largest evaluation batch.", rich_help_panel=options.SEARCH),
    ] = False,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    plot: options.Plot = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the largest batch size that fits, and prove it by running it."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.find_batch import find_batch as run
    from vram_cli.errors import Interrupted
    from vram_cli.records import Detail
    from vram_cli.report.progress import SearchProgress

    config = load_config()
    form = options.output_format(format_name, options.Format, json=json)
    files = Files(save=save, report=report, plot=plot, force=force)
    files.check()
    code = 0
    try:
        with SearchProgress(quiet=quiet) as progress:
            result = run(
                config,
                download=download,
                detail=Detail.MODULES if report is not None else Detail.ROWS,
                with_eval=with_eval,
                progress=progress,
            )
    except Interrupted as stop:
        result, code = stop.partial, stop.exit_code
    deliver(result, files, form)
    if code == 0 and result.max_batch_size is None:
        code = DoesNotFitError.exit_code
    raise typer.Exit(code)
