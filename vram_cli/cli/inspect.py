"""`vram inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vram_cli.cli import options
from vram_cli.errors import ConfigError

if TYPE_CHECKING:
    from vram_cli.records import Inspection


def inspect(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    depth: Annotated[int, typer.Option("--depth", min=1, metavar="N", help="Levels of the model's layers.")] = 3,
    preview: Annotated[
        bool, typer.Option("--preview", help="Draw some samples wherever this goes, not in a colour terminal only.")
    ] = False,
    download: options.Download = False,
    json: options.Json = False,
    save: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save", metavar="FILE.png", help="Write a picture of labelled samples."),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what is trained, and on what: the data and its bytes, the model's layers and their parameters."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.inspect import inspect as look
    from vram_cli.report.console import inform, stdout_console, warn
    from vram_cli.report.contact_sheet import PER_CLASS, check_sheet, save_sheet
    from vram_cli.report.formats.samples import has_colours
    from vram_cli.report.progress import SearchProgress

    if json and preview:
        raise ConfigError("--preview draws, and --json prints an object", "give one of them")
    settings = options.configure(config, overrides, {}, quiet=quiet)
    shown = not json and (preview or has_colours(stdout_console()))
    if save is not None:
        check_sheet(save, force=force)
    with SearchProgress(quiet=quiet) as progress:
        samples = PER_CLASS if save is not None else int(shown)
        found = look(settings, download=download, samples=samples, progress=progress)
    if save is not None:
        if not found.samples:
            raise ConfigError(f"--save {save}: {_no_images(found)}", _WITH_IMAGES)
        save_sheet(found, save, force=force)
    form = options.chosen(None, options.Format, json=json)
    deliver(found, Files(), form, depth=depth, preview=shown)
    if preview and not found.samples:
        warn(_no_images(found))
    if save is not None:
        inform(f"saved to {save}")


def _no_images(found: Inspection) -> str:
    return f"there are no image files to draw samples of ({found.data.info.detail})"


_WITH_IMAGES = "mnist, fashion_mnist and cifar10 have images: --download gets them, or set data.root to their folder"
