"""`vram check`."""

from __future__ import annotations

import contextlib
import errno
import re
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vram_cli.cli import options
from vram_cli.errors import ConfigError, VramError

if TYPE_CHECKING:
    from vram_cli.cli.output import Files
    from vram_cli.config import Config
    from vram_cli.records import CheckLimits, CheckResult

_FORMAT = r"text, markdown, json, or github: text with annotations. \[default: text]"
_SHARE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%?)\s*")


class CheckFormat(str, Enum):
    """How a verdict is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    GITHUB = "github"
    """Text, and workflow commands that GitHub Actions shows as annotations."""


@options.reads_config(
    "mode", "batch_size", "steps", *options.DEVICE_SETTINGS, *options.PARALLEL_SETTINGS, runs_scripts=True
)
def check(
    load_config: options.LoadConfig,
    *,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="SIZE", help="Most memory to reserve, such as 8GiB."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="FILE", help="Fail if the peak grows above the one in this file."),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option("--tolerance", metavar="SHARE", help=r"Allowed growth over the baseline. \[default: 2%]"),
    ] = None,
    update_baseline: Annotated[
        bool, options.option("--update-baseline", help="Write the baseline instead of comparing with it.")
    ] = False,
    download: options.Download = False,
    json: options.Json = False,
    format_name: Annotated[
        CheckFormat | None,
        options.output("--format", metavar="NAME", help=_FORMAT),
    ] = None,
    summary: Annotated[
        Path | None,
        options.output("--summary", metavar="FILE", help="Append the verdict to a file, such as $GITHUB_STEP_SUMMARY."),
    ] = None,
    report: options.Report = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Fail if peak memory is above a limit, or has grown since a baseline.

    Exit code 0 means that the check passes and 1 that it fails; every other code is an error, as listed by `vram -h`.
    """
    from vram_cli.cli.output import Files

    form, files = options.output_format(format_name, CheckFormat, json=json), Files(report=report, force=force)
    try:
        limits = _limits(max_memory, tolerance, baseline, update=update_baseline)
        if summary is not None:
            _append(summary, "")
        files.check()
        verdict = _verdict(load_config(), limits, baseline, update=update_baseline, download=download, quiet=quiet)
        _print(verdict, files, form)
        if baseline is not None and update_baseline:
            _update(baseline, verdict)
        if summary is not None:
            from vram_cli.cli.output import document_of
            from vram_cli.report.formats.markdown import to_markdown

            _append(summary, to_markdown(document_of(verdict)))
    except VramError as error:
        _report_error(error, form, summary)
        raise
    if not verdict.passed:
        raise typer.Exit(1)


def _verdict(
    config: Config, limits: CheckLimits, path: Path | None, *, update: bool, download: bool, quiet: bool
) -> CheckResult:
    from vram_cli.commands.check.run import check as run
    from vram_cli.report.baseline import check_baseline, load_baseline
    from vram_cli.report.progress import SearchProgress

    earlier = None
    if path is not None and update:
        check_baseline(path)
    elif path is not None:
        earlier = load_baseline(path)
    with SearchProgress(quiet=quiet) as progress:
        return run(
            config, limits, baseline=earlier, baseline_name=str(path or ""), download=download, progress=progress
        )


def _update(path: Path, verdict: CheckResult) -> None:
    from vram_cli.report.baseline import save_baseline
    from vram_cli.report.console import inform

    if verdict.passed:
        save_baseline(verdict.result, path)
    inform(f"wrote the baseline to {path}" if verdict.passed else f"did not write {path}: the check fails")


def _limits(max_memory: str | None, tolerance: str | None, baseline: Path | None, *, update: bool) -> CheckLimits:
    from vram_cli.records import CheckLimits
    from vram_cli.units import parse_bytes

    if baseline is None and (tolerance is not None or update):
        flag = "--update-baseline" if update else "--tolerance"
        raise ConfigError(f"{flag} needs --baseline FILE", "for example --baseline vram-baseline.json")
    if baseline is None and max_memory is None:
        raise ConfigError("vram check has no limit to check against", "add --max-memory SIZE, --baseline FILE or both")
    try:
        max_memory_bytes = None if max_memory is None else parse_bytes(max_memory)
    except ConfigError as error:
        raise ConfigError(f"--max-memory: {error.message}", error.hint) from None
    return CheckLimits(
        max_memory_bytes=max_memory_bytes,
        tolerance=_share(tolerance or "2%"),
    )


def _share(text: str) -> float:
    """Return 0.02 for "2%" or "0.02"; a fraction keeps the decimal value exact up to the last conversion."""
    match = _SHARE.fullmatch(text)
    share = Fraction(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or (share >= 1 and not text.rstrip().endswith("%")):
        raise ConfigError(f"--tolerance: {text[:40]!r} is not a share", "write 2% or 0.02")
    return float(share)


def _print(verdict: CheckResult, files: Files, form: CheckFormat) -> None:
    from vram_cli.cli.output import deliver

    if form is not CheckFormat.GITHUB:
        deliver(verdict, files, form.value)
        return
    from vram_cli.report.annotations import commands_stopped, workflow_commands
    from vram_cli.report.console import print_document

    stop, resume = commands_stopped()
    print_document(stop)
    try:
        deliver(verdict, files, form.value)
    finally:
        print_document(resume)
    print_document(workflow_commands(verdict))


def _report_error(error: VramError, form: CheckFormat, summary: Path | None) -> None:
    """Report an error that prevents a verdict, in place of the verdict."""
    if form is CheckFormat.GITHUB:
        from vram_cli.report.annotations import failure
        from vram_cli.report.console import print_document

        print_document(failure(error))
    if summary is not None:
        from vram_cli.report.formats.markdown import escaped

        text = f"### vram check could not run\n\n{escaped(error.message)}\n\n{escaped(error.hint)}\n"
        with contextlib.suppress(ConfigError):  # it is the error
            _append(summary, text)


def _append(path: Path, text: str) -> None:
    try:
        if path.is_fifo():
            raise OSError(errno.EINVAL, "it is a pipe")
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"--summary {path}: cannot be written: {error.strerror}", "choose a file that you may write to"
        ) from None
