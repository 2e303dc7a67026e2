"""`vram calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vram_cli.cli import options

if TYPE_CHECKING:
    from vram_cli.hardware.calibration import Calibration
    from vram_cli.hardware.gpus import Gpu


def calibrate(  # noqa: PLR0917 - Typer makes a flag of each
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="The GPU to run on: cuda or cuda:N.")
    ] = "cuda",
    show: Annotated[bool, typer.Option("--show", help="Show what is kept; nothing is run.")] = False,
    export: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--export", metavar="FILE", help="Write what is kept of a card to a file, for another machine."),
    ] = None,
    import_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--import", metavar="FILE", help="Keep a calibration that was exported elsewhere."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget what is kept of a card.")] = False,
    gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--gpu", metavar="NAME", help="With --show, --export or --remove: of which card."),
    ] = None,
    json: options.Json = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure on this GPU what predictions for it lack, and keep that for later ones.

    Kept are the memory outside PyTorch's allocator and kernels' workspaces, a file a card, in vram's folder among your
    configuration (VRAM_CONFIG_DIR names another). Nothing else is written.
    """
    given = {"--show": show, "--export": export, "--import": import_, "--remove": remove}
    _check(device, gpu, [flag for flag, value in given.items() if value])
    if show:
        _show(_calibrations(gpu), json=json)
    elif export is not None:
        _export(gpu, export, force=force)
    elif import_ is not None:
        _import(import_, force=force)
    elif remove:
        _remove(gpu)
    else:
        _run(device, json=json, quiet=quiet)


def _run(device: str, *, json: bool, quiet: bool) -> None:
    from vram_cli.commands.calibrate import calibrate as measure
    from vram_cli.hardware.calibration_store import to_json
    from vram_cli.report.answers.calibration import calibrations_document
    from vram_cli.report.console import print_answer
    from vram_cli.report.formats.text import to_text
    from vram_cli.report.progress import SearchProgress

    with SearchProgress(quiet=quiet) as progress:
        made = measure(device, progress=progress)
    # Told before it is kept: where the folder cannot be written, the figures are there all the same.
    if json:
        typer.echo(to_json(made), nl=False)
    else:
        print_answer(to_text(calibrations_document([made])))
    _keep(made)


def _show(calibrations: list[Calibration], *, json: bool) -> None:
    from vram_cli.report.answers.calibration import calibrations_document
    from vram_cli.report.console import print_answer
    from vram_cli.report.formats.json import calibrations_to_json
    from vram_cli.report.formats.text import to_text

    if json:
        typer.echo(calibrations_to_json(calibrations))
    else:
        print_answer(to_text(calibrations_document(calibrations)))


def _export(name: str | None, path: Path, *, force: bool) -> None:
    from vram_cli.files import write_file
    from vram_cli.hardware.calibration_store import to_json
    from vram_cli.report.console import inform

    (calibration,) = _calibrations(_the_one(name).name)
    write_file(to_json(calibration), path, force=force)
    inform(f"wrote {path}; on the other machine: vram calibrate --import {path.name}")


def _import(path: Path, *, force: bool) -> None:
    from vram_cli.errors import ConfigError
    from vram_cli.hardware.calibration_store import load_calibration, read_calibration

    made = read_calibration(path)
    before = None if force else load_calibration(made.gpu)
    if before not in (None, made):
        raise ConfigError(
            f"a calibration of {made.gpu.product} is kept already, {before.title}; {path} is {made.title}",
            "add --force to replace it",
        )
    _keep(made)


def _remove(name: str | None) -> None:
    from vram_cli.hardware.calibration_store import remove_calibration
    from vram_cli.report.console import inform

    inform(f"removed {remove_calibration(_the_one(name))}")


def _keep(calibration: Calibration) -> None:
    from vram_cli.hardware.calibration_store import calibrated_gpus, save_calibration
    from vram_cli.report.console import inform

    gpu = calibration.gpu
    instead = ", in place of the one before" if gpu in calibrated_gpus() else ""
    inform(f"kept in {save_calibration(calibration)}{instead}; predictions with --gpu {gpu.name} take it from now on")


def _calibrations(name: str | None) -> list[Calibration]:
    from vram_cli.hardware.calibration_store import calibrated_gpus, load_calibration

    cards = calibrated_gpus() if name is None else (_the_one(name),)
    return [found for found in map(load_calibration, cards) if found is not None]


def _the_one(name: str | None) -> Gpu:
    """Return the card of that name, or the only one, that a calibration is kept of."""
    from vram_cli.errors import ConfigError
    from vram_cli.hardware.calibration_store import calibrated_gpus
    from vram_cli.hardware.gpus import find_gpu

    cards = [gpu for gpu in calibrated_gpus() if name is None or gpu == find_gpu(name)]
    if len(cards) > 1:
        names = ", ".join(gpu.name for gpu in cards)
        raise ConfigError(f"calibrations of several cards are kept: {names}", "choose one with --gpu NAME")
    if not cards:
        of = f" of {find_gpu(name).product}" if name else ""
        raise ConfigError(
            f"no calibration{of} is kept", "`vram calibrate` makes one, `vram calibrate --show` lists all"
        )
    return cards[0]


def _check(device: str, gpu: str | None, flags: list[str]) -> None:
    import re

    from vram_cli.errors import ConfigError

    if len(flags) > 1:
        raise ConfigError(f"{' and '.join(flags)} do different things", "run one after the other")
    if gpu is not None and flags not in (["--show"], ["--export"], ["--remove"]):
        raise ConfigError(
            f"--gpu {gpu}: names a calibration that is kept, and none is asked for here",
            "to choose the GPU to run on, --device cuda:N; with --import, the file says of which card it is",
        )
    if not re.fullmatch(r"cuda(:[0-9]+)?", device):
        raise ConfigError(
            f"--device: {device!r} cannot be calibrated", "name a GPU: cuda or cuda:N; a ROCm GPU is cuda"
        )
