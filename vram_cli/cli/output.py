"""Where a result goes: stdout, and the file of `--save`."""

from __future__ import annotations

from pathlib import Path

import typer

from vram_cli.report.answer import answer, require_detail
from vram_cli.report.console import inform, print_answer
from vram_cli.report.plot import save_plot
from vram_cli.report.saved import save as save_result
from vram_cli.report.saved import to_json
from vram_cli.results import Result


def deliver(
    result: Result,
    *,
    json: bool,
    save: Path | None,
    force: bool,
    depth: int | None = None,
    timeline: bool = False,
    plot: Path | None = None,
) -> None:
    """Save the result and draw the picture if asked to, then print: even if that is cut short, what was found is kept.

    `depth` and `timeline` are those of `answer`; JSON has all that was measured in any case.
    """
    text = answer(result, depth=depth, timeline=timeline)
    if save is not None:
        save_result(result, save, force=force)
    if plot is not None:
        save_plot(require_detail(result), result.device, plot)
    if json:
        typer.echo(to_json(result))
    else:
        print_answer(text)
    for path in filter(None, (save, plot)):
        inform(f"saved to {path}")
