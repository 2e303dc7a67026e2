"""The output of an answer: to stdout, and to the files of `--save`, `--report` and `--plot`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import typer

from vram_cli.cli.options import Format
from vram_cli.compare.records import Comparison
from vram_cli.errors import ConfigError, DoesNotFitError
from vram_cli.files import check_writable, resolved
from vram_cli.records import Advice, BreakdownResult, CheckResult, FindBatchResult, Inspection
from vram_cli.report.answers.document_of import document_of as report_document
from vram_cli.report.console import inform, print_answer, print_document
from vram_cli.report.document import Document

Record = FindBatchResult | BreakdownResult | Advice | CheckResult | Inspection | Comparison


class Files(NamedTuple):
    """The output files of a command line; None for those without an option."""

    save: Path | None = None
    report: Path | None = None
    plot: Path | None = None
    snapshot: Path | None = None
    """Written by the trial."""
    force: bool = False

    def check(self) -> None:
        """Check that each file can be written, before a long run starts.

        Raises:
            ConfigError: a file cannot be written, already exists, or is named twice.
            MachineError: a package is missing.
        """
        self._check_names()
        for path in filter(None, (self.save, self.snapshot)):
            check_writable(path, force=self.force)
        if self.report is not None:
            from vram_cli.report.formats.html import check_report

            check_report(self.report, force=self.force)
        if self.plot is not None:
            from vram_cli.report.charts import check_plot

            check_plot(self.plot, force=self.force)

    def write(self, record: Record, document: Document) -> None:
        """Write the files.

        Raises:
            ConfigError, MachineError: as for `check`, or the picture needs a timeline that was not measured.
        """
        if self.plot is not None and document.picture is None:
            raise ConfigError(f"--plot {self.plot}: this answer has no picture", "--report FILE writes it as a page")
        # Drawn before any file is written, because drawing may fail.
        figure = document.picture() if self.plot is not None and document.picture is not None else None
        if self.save is not None:
            from vram_cli.report.saved import save

            save(record, self.save, force=self.force)
        if self.report is not None:
            from vram_cli.report.formats.html import save_report

            save_report(document, self.report, force=self.force)
        if self.plot is not None and figure is not None:
            from vram_cli.report.charts import save_figure

            save_figure(figure, self.plot)
        for path in filter(None, (self.save, self.report, self.plot)):
            inform(f"saved to {path}")

    def _check_names(self) -> None:
        flags: dict[Path, str] = {}
        for flag in ("save", "report", "plot", "snapshot"):
            path: Path | None = getattr(self, flag)
            if path is not None and (other := flags.setdefault(resolved(path), flag)) != flag:
                raise ConfigError(f"--{other} and --{flag} both name {path}", "give each its own file")


def deliver(record: Record, files: Files, form: str, **options: Any) -> None:
    """Print an answer, then write the files, even if printing fails: neither takes the answer from the other.

    Args:
        record: the answer.
        files: the files to write.
        form: the value of a `Format`: text, markdown or json.
        options: options of the document: depth and timeline, or depth and preview. JSON always has all measurements.
    """
    document = document_of(record, **options)
    try:
        print_record(record, document, form)
        sys.stdout.flush()
    finally:
        files.write(record, document)


def show_failure(error: DoesNotFitError, form: str) -> None:
    """Print what a batch that does not fit would take, if that is known; JSON is printed with the error."""
    result = error.result
    if isinstance(result, BreakdownResult) and result.needed is not None and form != Format.JSON.value:
        print_record(result, document_of(result), form)


def print_record(record: Record, document: Document, form: str) -> None:
    """Print an answer to stdout."""
    if form == Format.JSON.value:
        from vram_cli.report.formats.json import to_json

        typer.echo(to_json(record))
    elif form == Format.MARKDOWN.value:
        from vram_cli.report.formats.markdown import to_markdown

        print_document(to_markdown(document))
    else:
        from vram_cli.report.formats.text import to_text

        print_answer(to_text(document))


def document_of(record: Record, **options: Any) -> Document:
    """Return an answer as a document; the options are those of the function that builds it.

    Raises:
        ConfigError: an option needs something that was not measured.
    """
    if isinstance(record, Comparison):
        from vram_cli.compare.report import comparison_document

        return comparison_document(record)
    return report_document(record, **options)
