"""`vram inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    format_name: options.FormatName = None,
    save: Annotated[
        Path | None, options.output("--save", metavar="FILE.png", help="Save a picture of labeled samples.")
    ] = None,
    report: options.Report = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the data set and its size in bytes, and the layers of the model and their parameters."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.commands.inspect import inspect as run
    from vram_cli.report.console import inform, stdout_console, warn
    from vram_cli.report.contact_sheet import PER_CLASS, check_sheet, save_sheet
    from vram_cli.report.formats.samples import has_colours
    from vram_cli.report.progress import SearchProgress

    form, files = options.output_format(format_name, options.Format, json=json), Files(report=report, force=force)
    is_text = form is options.Format.TEXT
    if preview and not is_text:
        raise ConfigError(f"--preview draws samples as text, not as {form.value}", "leave one of them out")
    config = load_config()
    files.check()
    draws = is_text and (preview or has_colours(stdout_console()))
    if save is not None:
        check_sheet(save, force=force)
    with SearchProgress(quiet=quiet) as progress:
        samples = PER_CLASS if save is not None else int(draws)
        inspection = run(config, download=download, samples=samples, progress=progress)
    deliver(inspection, files, form, depth=depth, preview=draws)
    if preview and not inspection.samples:
        warn(_no_images(inspection))
    if save is not None:
        if not inspection.samples:
            raise ConfigError(f"--save {save}: {_no_images(inspection)}", _IMAGE_DATA)
        save_sheet(inspection, save, force=force)
        inform(f"saved to {save}")


def _no_images(inspection: Inspection) -> str:
    return f"the data set has no image files to draw samples from ({inspection.data.info.detail})"
