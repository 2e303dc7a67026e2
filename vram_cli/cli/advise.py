"""`vram advise`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vram_cli.cli import options

_DOES_NOT_FIT = 4


def advise(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    fit_batch: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--fit-batch", min=1, metavar="N", help="Find the cheapest changes that make a batch of N fit."),
    ] = None,
    effective_batch: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--effective-batch", min=1, metavar="N", help="Make a batch of N of accumulated smaller ones."),
    ] = None,
    own: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--also-try", metavar="KEY=VALUE", help="A change of your own to try. Repeatable."),
    ] = None,
    gpus: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--gpus", metavar="NAMES", help="Compare cards as well, such as t4,l4,a100-80gb."),
    ] = None,
    device: options.DeviceName = None,
    gpu: options.GpuName = None,
    memory_limit: options.MemoryLimit = None,
    overhead: options.Overhead = None,
    steps: options.Steps = None,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Try what would let a larger batch fit, and say what each change brings and costs."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.advise import advise as run
    from vram_cli.errors import Interrupted
    from vram_cli.report.progress import SearchProgress

    flags = {
        **options.place(device, gpu),
        "device.memory_limit": memory_limit,
        "device.overhead": overhead,
        "search.steps": steps,
    }
    settings = options.configure(config, overrides, flags, quiet=quiet)
    form, files = options.chosen(format_name, options.Format, json=json), Files(save=save, report=report, force=force)
    files.check()
    code = 0
    try:
        with SearchProgress(quiet=quiet, keep_status=True) as progress:
            advice = run(
                settings,
                own=own or [],
                fit_batch=fit_batch,
                effective_batch=effective_batch,
                gpus=[name.strip() for name in (gpus or "").split(",") if name.strip()],
                download=download,
                progress=progress,
            )
    except Interrupted as stop:
        advice, code = stop.partial, 130
    deliver(advice, files, form)
    if code == 0 and advice.max_batch_size is None and advice.best is None:
        code = _DOES_NOT_FIT
    raise typer.Exit(code)
