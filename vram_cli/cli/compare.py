"""`vram compare`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vram_cli.cli import options


class LrScaling(str, Enum):
    """Rule that scales the learning rate with the batch size."""

    LINEAR = "linear"
    SQRT = "sqrt"
    NONE = "none"


@options.reads_config("device", "memory_limit")
def compare(
    load_config: options.LoadConfig,
    *,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", "-b", metavar="N,N,...", help="Batch sizes; full is the whole training set.")
    ] = "1,32,128,256,full",
    samples: Annotated[
        str, typer.Option("--samples", metavar="N|all", help="Samples for training and validation together.")
    ] = "10000",
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", help="Epochs per run.")] = 5,
    holdout: Annotated[
        float, typer.Option("--holdout", metavar="SHARE", help="Fraction held out for validation.")
    ] = 0.2,
    folds: Annotated[
        int, typer.Option("--folds", metavar="K", help="Folds of a cross-validation; 1 uses the hold-out set.")
    ] = 1,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", help="Runs per batch size, each with another seed.")
    ] = 3,
    lr_scaling: Annotated[
        LrScaling | None,
        typer.Option("--lr-scaling", help=r"Learning rate rule. \[default: linear for sgd, else sqrt]"),
    ] = None,
    warmup: Annotated[
        float, typer.Option("--warmup", metavar="EPOCHS", help="Epochs of warm-up to a scaled-up learning rate.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Random seed for data, weights and shuffling.")] = 0,
    accumulate: Annotated[
        bool, options.option("--accumulate", help="Train sizes that do not fit with gradient accumulation.")
    ] = False,
    download: options.Download = False,
    results: Annotated[
        Path, options.output("--results", metavar="FILE", help="File of finished runs, resumed if it exists.")
    ] = Path("vram-compare.jsonl"),
    fresh: Annotated[bool, options.output("--fresh", help="Discard existing results and start over.")] = False,
    json: options.Json = False,
    format_name: options.FormatName = None,
    report: options.Report = None,
    plot: Annotated[
        Path | None,
        options.output("--plot", metavar="FILE", help="Plot loss, validation and noise as PNG, SVG or PDF."),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Train with several batch sizes on the same data, and compare accuracy, noise, speed and memory."""
    from vram_cli.cli.output import Files, deliver
    from vram_cli.compare import CompareOptions, compare_batch_sizes
    from vram_cli.compare.options import parse_sizes
    from vram_cli.errors import Interrupted
    from vram_cli.report.console import inform
    from vram_cli.report.progress import SearchProgress

    config = load_config()
    form = options.output_format(format_name, options.Format, json=json)
    files = Files(report=report, plot=plot, force=force)
    files.check()
    options.check_most(epochs=epochs, folds=folds, repeats=repeats, warmup=warmup, seed=seed)
    compare_options = CompareOptions(
        batch_sizes=parse_sizes(batch_sizes),
        samples=options.count_or_all(samples, "--samples"),
        holdout=holdout,
        folds=folds,
        epochs=epochs,
        repeats=repeats,
        lr_scaling=lr_scaling.value if lr_scaling else None,
        warmup=warmup,
        seed=seed,
        accumulate=accumulate,
    )
    code = 0
    try:
        with SearchProgress(quiet=quiet) as progress:
            comparison = compare_batch_sizes(
                config,
                compare_options,
                results=results,
                fresh=fresh,
                download=download,
                progress=progress,
            )
    except Interrupted as stop:
        comparison, code = stop.partial, stop.exit_code
    deliver(comparison, files, form)
    inform(f"results in {results}: run the same command to resume")
    raise typer.Exit(code)
