"""Where a result goes: stdout, and the file of `--save`."""

from __future__ import annotations

from pathlib import Path

import typer

from vram_cli.report.answer import answer
from vram_cli.report.console import inform, print_answer
from vram_cli.report.saved import save as save_result
from vram_cli.report.saved import to_json
from vram_cli.results import Result


def deliver(result: Result, *, json: bool, save: Path | None, force: bool) -> None:
    """Save the result if asked to, then print it: even if printing is cut short, what was measured is kept."""
    if save is not None:
        save_result(result, save, force=force)
    if json:
        typer.echo(to_json(result))
    else:
        print_answer(answer(result))
    if save is not None:
        inform(f"saved to {save}")
