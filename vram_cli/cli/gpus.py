"""`vram gpus`."""

from __future__ import annotations

from typing import Annotated

import typer

from vram_cli.cli import options


def gpus(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="Words from the name, vendor or architecture. \\[default: all GPUs]"),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the GPUs that vram can predict for; a single match is shown in full, with its sources."""
    from vram_cli.hardware.gpus import all_gpus, select_gpus
    from vram_cli.report.answers.gpus import gpu_document, gpus_document
    from vram_cli.report.console import print_answer
    from vram_cli.report.formats.json import gpus_to_json
    from vram_cli.report.formats.text import to_text

    text = " ".join(words or ())
    matches = select_gpus(text)
    if json:
        typer.echo(gpus_to_json(matches))
    elif len(matches) == 1:
        print_answer(to_text(gpu_document(matches[0], all_gpus(text))))
    else:
        print_answer(to_text(gpus_document(matches)))
