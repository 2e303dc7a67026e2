"""`vram calibrate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vram_cli.cli import options
from vram_cli.errors import ConfigError

if TYPE_CHECKING:
    from vram_cli.hardware.calibration import Calibration
    from vram_cli.hardware.gpus import Gpu


def calibrate(
    *,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="GPU to measure: cuda or cuda:N.")] = "cuda",
    show: Annotated[bool, options.option("--show", help="Show the saved calibrations; runs nothing.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write a saved calibration for another machine.")
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Save a calibration from another machine.")
    ] = None,
    remove: Annotated[bool, options.option("--remove", help="Delete a saved calibration.")] = False,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="GPU of the calibration to show, export or remove, if several."),
    ] = None,
    json: options.Json = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure this machine's GPU, and save the results for later predictions.

    Saves the CUDA context size and kernel workspaces, one file per GPU model,
    in the folder VRAM_CONFIG_DIR (default: ~/.config/vram).
    """
    from vram_cli.commands.calibrate import calibrate as run
    from vram_cli.files import write_file
    from vram_cli.hardware import calibration_store as store
    from vram_cli.report.answers.calibration import calibrations_document
    from vram_cli.report.console import inform, print_answer
    from vram_cli.report.formats.json import calibrations_to_json
    from vram_cli.report.formats.text import to_text
    from vram_cli.report.progress import SearchProgress

    actions = {"--show": show, "--export": export, "--import": import_, "--remove": remove}
    _check_options(device, gpu, [flag for flag, value in actions.items() if value])
    if show:
        calibrations = [calibration for gpu in _saved_gpus(gpu) if (calibration := store.load_calibration(gpu))]
        if json:
            typer.echo(calibrations_to_json(calibrations))
        else:
            print_answer(to_text(calibrations_document(calibrations)))
    elif export is not None:
        (calibration,) = filter(None, [store.load_calibration(_saved_gpu(gpu))])
        write_file(store.to_json(calibration), export, force=force)
        inform(f"wrote {export}; on the other machine, run: vram calibrate --import {export.name}")
    elif import_ is not None:
        calibration = store.read_calibration(import_)
        earlier = None if force else store.load_calibration(calibration.gpu)
        if earlier is not None and earlier != calibration:
            message = (
                f"{earlier.gpu.product} has a calibration already, {earlier.title}; {import_} is {calibration.title}"
            )
            raise ConfigError(message, "add --force to replace it")
        _save(calibration)
    elif remove:
        inform(f"removed {store.remove_calibration(_saved_gpu(gpu))}")
    else:
        with SearchProgress(quiet=quiet) as progress:
            calibration = run(device, progress=progress)
        # Printed first: if the folder cannot be written, the measurements are not lost.
        if json:
            typer.echo(store.to_json(calibration), nl=False)
        else:
            print_answer(to_text(calibrations_document([calibration])))
        _save(calibration)


def _check_options(device: str, gpu: str | None, actions: list[str]) -> None:
    if len(actions) > 1:
        raise ConfigError(f"{' and '.join(actions)} cannot be combined", "run them one after the other")
    if gpu is not None and actions not in (["--show"], ["--export"], ["--remove"]):
        raise ConfigError(
            f"--gpu {gpu}: selects a saved calibration, so it needs --show, --export or --remove",
            "use --device cuda:N to choose the GPU to measure; a file for --import names its own GPU",
        )
    if not re.fullmatch(r"cuda(:[0-9]+)?", device):
        raise ConfigError(
            f"--device: cannot calibrate {device!r}", "use cuda or cuda:N; PyTorch calls a ROCm GPU cuda too"
        )


def _save(calibration: Calibration) -> None:
    from vram_cli.hardware.calibration_store import calibrated_gpus, save_calibration
    from vram_cli.report.console import inform

    gpu = calibration.gpu
    replaces = ", replacing the earlier one" if gpu in calibrated_gpus() else ""
    inform(f"saved to {save_calibration(calibration)}{replaces}; predictions with --gpu {gpu.name} now use it")


def _saved_gpus(name: str | None) -> list[Gpu]:
    """Return the GPUs that have a saved calibration: all of them, or the named one.

    Raises:
        ConfigError: the named one has none.
    """
    from vram_cli.hardware.calibration_store import calibrated_gpus
    from vram_cli.hardware.gpus import find_gpu

    if name is None:
        return list(calibrated_gpus())
    gpu = find_gpu(name)
    if gpu not in calibrated_gpus():
        raise _no_calibration(f" of {gpu.product}")
    return [gpu]


def _saved_gpu(name: str | None) -> Gpu:
    """Return the named GPU, or the only one, that has a saved calibration.

    Raises:
        ConfigError: no GPU has one, or several have and none is named.
    """
    gpus = _saved_gpus(name)
    if len(gpus) > 1:
        names = ", ".join(gpu.name for gpu in gpus)
        raise ConfigError(f"several calibrations are saved: {names}", "select one with --gpu NAME")
    if not gpus:
        raise _no_calibration("")
    return gpus[0]


def _no_calibration(of_gpu: str) -> ConfigError:
    return ConfigError(
        f"no calibration{of_gpu} is saved", "`vram calibrate` measures one, `vram calibrate --show` lists all"
    )
