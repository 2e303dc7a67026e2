"""`vram schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    results: Annotated[
        bool, typer.Option("--results", help="Print the schema of saved results instead.", show_default=False)
    ] = False,
) -> None:
    """Print the JSON Schema of config files, for completion in editors."""
    if results:
        from vram_cli.report.saved import result_schema as json_schema
    else:
        from vram_cli.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
