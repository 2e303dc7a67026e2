"""Progress on stderr while a search runs: a live line on a terminal, elsewhere a line per trial."""

from __future__ import annotations

from types import TracebackType

from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from vram_cli.progress import Progress
from vram_cli.records import Bracket, Measurement, ThroughputPoint
from vram_cli.report.console import stderr_console
from vram_cli.report.words import count, duration, literal, number, outcome_label, per_second, three_digits
from vram_cli.units import format_bytes


class SearchProgress(Progress):
    """Shows progress on stderr; a context manager.

    Args:
        quiet: show nothing at all.
        keep_status: print each status on a line of its own if there is no live line to show it in.
    """

    def __init__(self, *, quiet: bool = False, keep_status: bool = False) -> None:
        self._console = stderr_console()
        self._quiet, self._keep_status = quiet, keep_status
        self._live: RichProgress | None = None

    def __enter__(self) -> SearchProgress:
        if self._console.is_interactive and not self._quiet:
            self._live = self._live_line()
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def status(self, text: str) -> None:
        """Show the current activity in the live line."""
        if self._live is not None:
            self._live.update(self._live.task_ids[0], description=literal(text).plain)
        elif self._keep_status:
            self.note(text)

    def note(self, text: str) -> None:
        """Print a finding: a line that stays."""
        if not self._quiet:
            self._console.print(literal(text), soft_wrap=True)

    def trial_started(self, batch_size: int, bracket: Bracket) -> None:
        """Show that a trial starts."""
        self.status(f"trying {number(batch_size)}{_bracket(bracket)}")

    def trial_finished(self, measurement: Measurement, bracket: Bracket) -> None:
        """Print a line for a trial that ended."""
        if self._quiet:
            return
        line = _line(measurement)
        if self._live is None:
            line.append(_bracket(bracket))
        self._console.print(line, soft_wrap=True)

    def timed(self, point: ThroughputPoint) -> None:
        """Print a line for a size that was timed."""
        if not self._quiet:
            spread = f"half of {count(point.steps, 'step')}: {three_digits(point.q25)} to {three_digits(point.q75)}"
            line = f"{number(point.batch_size):>11}  {per_second(point.samples_per_second)} ({spread})"
            self._console.print(literal(line), soft_wrap=True)

    def _live_line(self) -> RichProgress:
        ascii_only = self._console.options.ascii_only
        live = RichProgress(
            SpinnerColumn("line" if ascii_only else "dots"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
        )
        live.add_task("starting", total=None)
        return live


def _line(trial: Measurement) -> Text:
    peak = format_bytes(trial.peak_reserved_bytes) if trial.peaks else ""
    style = "yellow" if trial.thrashing else "green" if trial.fits else "red"
    return Text.assemble(
        f"{number(trial.batch_size):>11}  ",
        (outcome_label(trial), style),
        f", {peak} at its peak" if peak else "",
        f", {duration(trial.seconds)}",
    )


def _bracket(bracket: Bracket) -> str:
    sizes = [f"fits {number(bracket.largest_ok)}"] if bracket.largest_ok else []
    sizes += [f"fails {number(bracket.smallest_failed)}"] if bracket.smallest_failed is not None else []
    return f" ({', '.join(sizes)})" if sizes else ""
