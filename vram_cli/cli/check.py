"""`vram check`."""

from __future__ import annotations

import re
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vram_cli.cli import options
from vram_cli.errors import ConfigError, VramError

if TYPE_CHECKING:
    from vram_cli.config import Config
    from vram_cli.records import CheckLimits, CheckResult

_DEFAULT_TOLERANCE = "2%"
_SHARE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%?)\s*")


class Form(str, Enum):
    """How a verdict is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    GITHUB = "github"
    """Text, and workflow commands that GitHub Actions shows as annotations."""


def check(  # noqa: PLR0917 - Typer makes a flag of each
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    batch_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--batch-size", "-n", min=1, metavar="N", help="In place of the config's train.batch_size."),
    ] = None,
    max_memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--max-memory", metavar="SIZE", help="Most that PyTorch may reserve at the peak, such as 8GiB."),
    ] = None,
    baseline: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--baseline", metavar="FILE", help="An earlier peak, above which this one may not grow."),
    ] = None,
    tolerance: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--tolerance", metavar="SHARE", help="By how much it may all the same; 2% unless told."),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write the baseline anew in place of comparing with it.")
    ] = False,
    device: options.DeviceName = None,
    gpu: options.GpuName = None,
    memory_limit: options.MemoryLimit = None,
    overhead: options.Overhead = None,
    steps: options.Steps = None,
    download: options.Download = False,
    json: options.Json = False,
    format_name: Annotated[
        Optional[Form],  # noqa: UP045
        typer.Option("--format", help="How to print the verdict; github adds annotations to the text."),
    ] = None,
    summary: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--summary", metavar="FILE", help="Append it as Markdown, such as to $GITHUB_STEP_SUMMARY."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Fail where a training's peak memory is above a limit, or has grown since a baseline.

    Exit codes: 0 it passes, 1 a finding, all others as everywhere: 1 is never an error.
    """
    form = options.chosen(format_name, Form, json=json)
    flags = {
        **options.place(device, gpu),
        "train.batch_size": batch_size,
        "device.memory_limit": memory_limit,
        "device.overhead": overhead,
        "search.steps": steps,
    }
    try:
        limits = _limits(max_memory, tolerance, baseline, update=update_baseline)
        if summary is not None:
            _append(summary, "")
        settings = options.configure(config, overrides, flags, quiet=quiet)
        verdict = _verdict(settings, limits, baseline, update=update_baseline, download=download, quiet=quiet)
        _print(verdict, form)
        if summary is not None:
            from vram_cli.cli.output import document_of
            from vram_cli.report.formats.markdown import to_markdown

            _append(summary, to_markdown(document_of(verdict)))
    except VramError as error:
        _tell(error, form, summary)
        raise
    if not verdict.passed:
        raise typer.Exit(1)


def _verdict(
    settings: Config, limits: CheckLimits, path: Path | None, *, update: bool, download: bool, quiet: bool
) -> CheckResult:
    from vram_cli.commands.check.run import check as judge
    from vram_cli.report.baseline import check_baseline, load_baseline, save_baseline
    from vram_cli.report.console import inform
    from vram_cli.report.progress import SearchProgress

    kept = None
    if path is not None and update:
        check_baseline(path)
    elif path is not None:
        kept = load_baseline(path)
    with SearchProgress(quiet=quiet) as progress:
        verdict = judge(
            settings, limits, baseline=kept, baseline_name=str(path or ""), download=download, progress=progress
        )
    if path is not None and update:
        if verdict.passed:
            save_baseline(verdict.result, path)
        inform(f"baseline {'written to' if verdict.passed else 'not written:'} {path}")
    return verdict


def _limits(max_memory: str | None, tolerance: str | None, baseline: Path | None, *, update: bool) -> CheckLimits:
    from vram_cli.records import CheckLimits
    from vram_cli.units import parse_bytes

    if baseline is None and (tolerance is not None or update):
        flag = "--update-baseline" if update else "--tolerance"
        raise ConfigError(f"{flag} needs --baseline FILE", "such as --baseline vram-baseline.json")
    if baseline is None and max_memory is None:
        raise ConfigError("there is nothing to check against", "give --max-memory SIZE, --baseline FILE or both")
    return CheckLimits(
        max_memory_bytes=None if max_memory is None else parse_bytes(max_memory),
        tolerance=_share(tolerance or _DEFAULT_TOLERANCE),
    )


def _share(text: str) -> float:
    """Return "2%" or "0.02" as 0.02, rounded once only: the gate counts in what was written."""
    match = _SHARE.fullmatch(text)
    share = Fraction(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or (share >= 1 and not text.rstrip().endswith("%")):
        raise ConfigError(f"--tolerance: {text[:40]!r} is not a share", "write 2% or 0.02 for two in a hundred")
    return float(share)


def _print(verdict: CheckResult, form: Form) -> None:
    from vram_cli.cli.output import Files, deliver

    deliver(verdict, Files(), form)
    if form is Form.GITHUB:
        from vram_cli.report.annotations import workflow_commands
        from vram_cli.report.console import print_document

        print_document(workflow_commands(verdict))


def _tell(error: VramError, form: Form, summary: Path | None) -> None:
    """Say where findings would have been said why there is no verdict."""
    if form is Form.GITHUB:
        from vram_cli.report.annotations import failure
        from vram_cli.report.console import print_document

        print_document(failure(error))
    if summary is not None and summary.exists():
        from vram_cli.report.formats.markdown import escaped

        _append(summary, f"### vram check could not run\n\n{escaped(error.message)}\n\n{escaped(error.hint)}\n")


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--summary {path}: cannot be written: {error.strerror}", "name another file") from None
