"""`vram init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to write.")] = Path("vram.yaml"),
    force: Annotated[bool, typer.Option("--force", metavar="", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a starter config with comments."""
    from vram_cli.config import write_starter
    from vram_cli.report.words import spelled_line

    written = write_starter(path, force=force)
    typer.echo(spelled_line(f"wrote {written}; next: vram find-batch --config {written}"))
