"""`vram compare`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from vram_cli.cli import options


class Rule(str, Enum):
    """How the learning rate follows the batch size."""

    LINEAR = "linear"
    SQRT = "sqrt"
    NONE = "none"


def compare(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    device: options.DeviceName = None,
    memory_limit: options.MemoryLimit = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", "-b", metavar="N,N,...", help="full holds all training samples.")
    ] = "1,32,128,256,full",
    samples: Annotated[
        str, typer.Option("--samples", metavar="N|all", help="Of the data set, for training and validation together.")
    ] = "10000",
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", help="Every size sees as many images.")] = 5,
    holdout: Annotated[
        float, typer.Option("--holdout", metavar="SHARE", help="Of the samples, kept to validate with.")
    ] = 0.2,
    folds: Annotated[
        int, typer.Option("--folds", metavar="K", help="Cross-validation in K parts, in place of a hold-out.")
    ] = 1,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", help="Trainings of each size, each from another seed.")
    ] = 3,
    scaling: Annotated[
        Optional[Rule],  # noqa: UP045
        typer.Option(
            "--lr-scaling",
            help="From the config's rate and train.batch_size to each size's. (default: linear for sgd, else sqrt)",
        ),
    ] = None,
    warmup: Annotated[
        float, typer.Option("--warmup", metavar="EPOCHS", help="Reach a rate above the config's in so many epochs.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of samples, weights and order.")] = 0,
    accumulate: Annotated[
        bool, typer.Option("--accumulate", help="Train sizes that do not fit in parts, gradients added up.")
    ] = False,
    results: Annotated[
        Path, typer.Option("--results", metavar="FILE", help="Where finished trainings are kept, and gone on with.")
    ] = Path("vram-compare.jsonl"),
    download: options.Download = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="FILE", help="Draw losses, accuracy and noise as PNG, SVG or PDF."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew: throw away what the file of --results has.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a picture that is there.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train with several batch sizes on the same images: accuracy, noise, speed and memory side by side."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.compare import CompareOptions, compare_batch_sizes
    from vram_cli.compare.options import parse_sizes
    from vram_cli.errors import Interrupted
    from vram_cli.report.console import inform
    from vram_cli.report.progress import SearchProgress

    flags = {**options.place(device, None), "device.memory_limit": memory_limit}
    settings = options.configure(config, overrides, flags, quiet=quiet)
    form = options.chosen(format_name, options.Format, json=json)
    files = Files(plot=plot, force=force)
    files.check()
    asked = CompareOptions(
        batch_sizes=parse_sizes(batch_sizes),
        samples=options.whole_or_all(samples, "--samples"),
        holdout=holdout,
        folds=folds,
        epochs=epochs,
        repeats=repeats,
        scaling=scaling.value if scaling else None,
        warmup=warmup,
        seed=seed,
        accumulate=accumulate,
    )
    code = 0
    try:
        with SearchProgress(quiet=quiet) as progress:
            found = compare_batch_sizes(
                settings,
                asked,
                results=results,
                fresh=fresh,
                download=download,
                progress=progress,
            )
    except Interrupted as stop:
        found, code = stop.partial, 130
    deliver(found, files, form)
    inform(f"saved in {results}: the same command continues from there")
    raise typer.Exit(code)
