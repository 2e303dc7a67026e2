"""Where a result goes: stdout, and the files of `--save`, `--report` and `--plot`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import typer

from vram_cli.cli.options import Format
from vram_cli.compare.records import Comparison
from vram_cli.errors import ConfigError
from vram_cli.records import Advice, Result
from vram_cli.report.answer import answer, require_detail
from vram_cli.report.console import inform, print_answer, print_document
from vram_cli.report.saved import check_writable, to_json
from vram_cli.report.saved import save as save_result


class Files(NamedTuple):
    """The files that the command line asks for, each None where it does not."""

    save: Path | None = None
    report: Path | None = None
    plot: Path | None = None
    snapshot: Path | None = None
    """Written by the trial itself."""
    force: bool = False

    def check(self) -> None:
        """Check that each could be written, so that nobody learns after a long run that it cannot.

        Raises:
            ConfigError: one cannot be written, is there already, or is named twice.
            MachineError: a package is missing.
        """
        self._check_names()
        for path in filter(None, (self.save, self.snapshot)):
            check_writable(path, force=self.force)
        if self.report is not None:
            from vram_cli.report.html import check_report

            check_report(self.report, force=self.force)
        if self.plot is not None:
            from vram_cli.report.plot import check_plot

            check_plot(self.plot, force=self.force)

    def write(self, result: Result | Advice) -> None:
        """Write what there is to write of a result.

        Raises:
            ConfigError, MachineError: as `check` does; a picture asks for a timeline that is not there.
        """
        if self.save is not None:
            save_result(result, self.save, force=self.force)
        if self.report is not None:
            from vram_cli.report.html import save_report

            save_report(result, self.report, force=self.force)
        if self.plot is not None and isinstance(result, Result):
            from vram_cli.report.plot import save_plot

            save_plot(result, self.plot)

    def _check_names(self) -> None:
        flags: dict[Path, str] = {}
        for flag in ("save", "report", "plot", "snapshot"):
            path: Path | None = getattr(self, flag)
            if path is not None and (other := flags.setdefault(path.resolve(), flag)) != flag:
                raise ConfigError(f"--{other} and --{flag} both name {path}", "give each a file of its own")


def deliver(
    result: Result,
    files: Files,
    form: Format,
    *,
    depth: int | None = None,
    timeline: bool = False,
) -> None:
    """Write the files, then print: even if that is cut short, what was found is kept.

    `depth` and `timeline` are those of `answer`; JSON has all that was measured in any case.
    """
    if depth is not None or timeline or (files.plot is not None and result.command == "breakdown"):
        require_detail(result)
    files.write(result)
    if form is Format.JSON:
        typer.echo(to_json(result))
    elif form is Format.MARKDOWN:
        from vram_cli.report.markdown import to_markdown

        print_document(to_markdown(result, depth=depth, timeline=timeline))
    else:
        print_answer(answer(result, depth=depth, timeline=timeline))
    _say_where(files)


def deliver_advice(advice: Advice, files: Files, form: Format) -> None:
    """Do the same with the answer of `vram advise`, of which there are no pictures."""
    files.write(advice)
    if form is Format.JSON:
        typer.echo(to_json(advice))
    elif form is Format.MARKDOWN:
        from vram_cli.report.markdown import advice_to_markdown

        print_document(advice_to_markdown(advice))
    else:
        from vram_cli.report.advice import advice_text

        print_answer(advice_text(advice))
    _say_where(files)


def deliver_comparison(comparison: Comparison, results: Path, plot: Path | None, form: Format) -> None:
    """Do the same with the answer of `vram compare`; what is finished lies in a file of its own already."""
    if plot is not None:
        from vram_cli.compare.plot import save_comparison_plot

        save_comparison_plot(comparison, plot)
    if form is Format.JSON:
        typer.echo(to_json(comparison))
    elif form is Format.MARKDOWN:
        from vram_cli.compare.markdown import comparison_to_markdown

        print_document(comparison_to_markdown(comparison))
    else:
        from vram_cli.compare.report import comparison_text

        print_answer(comparison_text(comparison))
    if plot is not None:
        inform(f"saved to {plot}")
    inform(f"results in {results}: run the same command to resume")


def _say_where(files: Files) -> None:
    for path in filter(None, (files.save, files.report, files.plot)):
        inform(f"saved to {path}")
