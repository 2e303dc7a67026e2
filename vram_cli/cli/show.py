"""`vram show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vram_cli.cli import options


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result that was kept with --save.")],
    json: options.Json = False,
) -> None:
    """Draw a saved result again; needs no device."""
    from vram_cli.cli.output import deliver
    from vram_cli.report.saved import load

    deliver(load(file), json=json, save=None, force=False)
