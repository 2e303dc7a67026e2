"""`vram init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("vram.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> None:
    """Write a commented starter config."""
    from vram_cli.config import write_starter

    written = write_starter(path, force=force)
    typer.echo(f"wrote {written}; next: vram find-batch --config {written}")
