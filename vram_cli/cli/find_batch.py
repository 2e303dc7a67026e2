"""`vram find-batch`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vram_cli.cli import options

_DOES_NOT_FIT = 4


def find_batch(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    device: options.DeviceName = None,
    gpu: options.GpuName = None,
    memory_limit: options.MemoryLimit = None,
    overhead: options.Overhead = None,
    objective: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--objective",
            metavar="largest|throughput",
            help="throughput also times steps at sizes up to the largest. (config: search.objective)",
        ),
    ] = None,
    maximum: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--max-batch-size", metavar="N", help="Never try more than N. (config: search.max_batch_size)"),
    ] = None,
    no_dataset_limit: Annotated[
        bool, typer.Option("--no-dataset-limit", help="Also try batch sizes larger than the data set.")
    ] = False,
    time_limit: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--time-limit", metavar="SECONDS", help="Answer with what is known by then."),
    ] = None,
    steps: options.Steps = None,
    tolerance: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--tolerance", metavar="SHARE", help="Stop this close to the maximum, such as 0.01; 0 is exact."),
    ] = None,
    multiple_of: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--multiple-of", metavar="N", help="Recommend a multiple of N. (config: search.multiple_of)"),
    ] = None,
    margin: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--margin", metavar="SHARE", help="Memory that the recommended size leaves free, such as 0.05."),
    ] = None,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    plot: options.Plot = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the largest batch size that fits, by real training steps, and prove it."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.find_batch import find_batch as run
    from vram_cli.errors import Interrupted
    from vram_cli.records import Detail
    from vram_cli.report.progress import SearchProgress

    flags = {
        **options.place(device, gpu),
        "device.memory_limit": memory_limit,
        "device.overhead": overhead,
        "search.objective": objective,
        "search.max_batch_size": maximum,
        "search.limit_to_dataset": "false" if no_dataset_limit else None,
        "search.time_limit": time_limit,
        "search.steps": steps,
        "search.tolerance": tolerance,
        "search.multiple_of": multiple_of,
        "search.margin": margin,
    }
    settings = options.configure(config, overrides, flags, quiet=quiet)
    form = options.chosen(format_name, options.Format, json=json)
    files = Files(save=save, report=report, plot=plot, force=force)
    files.check()
    code = 0
    try:
        with SearchProgress(quiet=quiet) as progress:
            result = run(
                settings,
                download=download,
                detail=Detail.MODULES if report is not None else Detail.ROWS,
                progress=progress,
            )
    except Interrupted as stop:
        result, code = stop.partial, 130
    deliver(result, files, form)
    if code == 0 and result.max_batch_size is None:
        code = _DOES_NOT_FIT
    raise typer.Exit(code)
