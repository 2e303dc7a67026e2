"""`vram show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vram_cli.cli import options


def show(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result that was saved with --save.")],
    by: options.By = None,
    depth: options.Depth = 3,
    timeline: options.Timeline = False,
    report: options.Report = None,
    plot: options.Plot = None,
    json: options.Json = False,
    format_name: options.FormatName = None,
    force: options.Force = False,
) -> None:
    """Show a saved result again; needs no GPU."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.errors import ConfigError
    from vram_cli.records import Advice
    from vram_cli.report.saved import load

    levels, form = options.levels(by, depth), options.output_format(format_name, options.Format, json=json)
    files = Files(report=report, plot=plot, force=force)
    files.check()
    result = load(file)
    if not isinstance(result, Advice):
        deliver(result, files, form, depth=levels, timeline=timeline)
    elif levels is not None or timeline or plot is not None:
        hint = "`vram breakdown` with the same options has them"
        raise ConfigError(f"{file}: saved by `vram advise`, without modules, timeline and picture", hint)
    else:
        deliver(result, files, form)
