"""`vram advise`."""

from __future__ import annotations

from typing import Annotated

import typer

from vram_cli.cli import options
from vram_cli.errors import DoesNotFitError


@options.reads_config("mode", "steps", *options.DEVICE_SETTINGS, *options.PARALLEL_SETTINGS, runs_scripts=True)
def advise(
    load_config: options.LoadConfig,
    *,
    fit_batch: Annotated[
        int | None,
        typer.Option(
            "--fit-batch", min=1, metavar="N", help="Find the cheapest changes, or the fewest GPUs, for a batch of N."
        ),
    ] = None,
    effective_batch: Annotated[
        int | None,
        typer.Option("--effective-batch", min=1, metavar="N", help="Reach a batch of N by gradient accumulation."),
    ] = None,
    also_try: Annotated[
        list[str] | None, typer.Option("--also-try", metavar="KEY=VALUE", help="Another change to try. Repeatable.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="NAMES", help="Also predict for these GPUs, such as t4,a100-80gb."),
    ] = None,
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    save: options.Save = None,
    report: options.Report = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Try changes that let a larger batch fit, and show the gain and the cost of each."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.advise import advise as run
    from vram_cli.errors import Interrupted
    from vram_cli.report.progress import SearchProgress

    config = load_config()
    form = options.output_format(format_name, options.Format, json=json)
    files = Files(save=save, report=report, force=force)
    files.check()
    options.check_most(fit_batch=fit_batch, effective_batch=effective_batch)
    code = 0
    try:
        with SearchProgress(quiet=quiet, keep_status=True) as progress:
            advice = run(
                config,
                also_try=also_try or [],
                fit_batch=fit_batch,
                effective_batch=effective_batch,
                gpus=[name.strip() for name in (gpus or "").split(",") if name.strip()],
                download=download,
                progress=progress,
            )
    except Interrupted as stop:
        advice, code = stop.partial, stop.exit_code
    deliver(advice, files, form)
    has_answer = advice.max_batch_size or advice.best or any(plan.ranks for plan in advice.fewest_gpus)
    if code == 0 and not has_answer:
        code = DoesNotFitError.exit_code
    raise typer.Exit(code)
