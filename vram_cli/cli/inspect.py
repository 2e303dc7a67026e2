"""`vram inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vram_cli.cli import options
from vram_cli.errors import ConfigError

if TYPE_CHECKING:
    from vram_cli.records import Inspection

_IMAGE_DATA = "use mnist, fashion_mnist or cifar10: add --download, or set data.root to the folder that has the files"


@options.reads_config("mode")
def inspect(
    load_config: options.LoadConfig,
    *,
    depth: options.Depth = 3,
    preview: Annotated[
        bool, options.option("--preview", help="Draw some samples, even if the output is not a color terminal.")
    ] = False,
    download: options.Download = False,
    json: options.Json = False,
    save: Annotated[
        Path | None, options.output("--save", metavar="FILE.png", help="Save a picture of labeled samples.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the data set and its size in bytes, and the layers of the model and their parameters."""
    from vram_cli.commands.inspect import inspect as run
    from vram_cli.report.console import inform, print_answer, stdout_console, warn
    from vram_cli.report.inspection import InspectionInFull, inspection_as_json
    from vram_cli.report.preview import has_colours
    from vram_cli.report.progress import SearchProgress
    from vram_cli.report.sheet import PER_CLASS, check_sheet, save_sheet

    if json and preview:
        raise ConfigError("--preview draws samples and --json prints an object", "leave one of them out")
    config = load_config()
    with_preview = not json and (preview or has_colours(stdout_console()))
    if save is not None:
        check_sheet(save, force=force)
    with SearchProgress(quiet=quiet) as progress:
        samples = PER_CLASS if save is not None else int(with_preview)
        inspection = run(config, download=download, samples=samples, status=progress.status)
    if save is not None:
        if not inspection.samples:
            raise ConfigError(f"--save {save}: {_no_images(inspection)}", _IMAGE_DATA)
        save_sheet(inspection, save, force=force)
    if json:
        typer.echo(inspection_as_json(inspection))
    else:
        print_answer(InspectionInFull(inspection, depth, preview=with_preview))
    if preview and not inspection.samples:
        warn(_no_images(inspection))
    if save is not None:
        inform(f"saved to {save}")


def _no_images(inspection: Inspection) -> str:
    return f"the data set has no image files to draw samples from ({inspection.data.info.detail})"
