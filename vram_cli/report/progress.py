"""Progress on stderr while a search runs: a live line on a terminal, elsewhere a line per trial."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from vram_cli.records import Measurement, ThroughputPoint
from vram_cli.report.console import stderr_console
from vram_cli.report.words import count, duration, literal, number, outcome_label, per_second, three_digits
from vram_cli.units import format_bytes


class Bracket(Protocol):
    """The sizes between which the answer lies."""

    @property
    def fits(self) -> int:
        """The largest size that ran; 0 if none did."""
        ...

    @property
    def fails(self) -> int | None:
        """The smallest size that failed; None if none did."""
        ...


class SearchProgress:
    """Shows the progress of a search, as a context manager; `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = stderr_console()
        self._quiet = quiet
        self._live: Progress | None = None

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
        """Show the current activity between trials, such as "importing torch", on a terminal only."""
        if self._live is not None:
            self._live.update(self._live.task_ids[0], description=literal(text).plain)

    def note(self, text: str) -> None:
        """Print a finding: a line that stays."""
        if not self._quiet:
            self._console.print(literal(text), soft_wrap=True)

    def announce(self, text: str) -> None:
        """Show the current activity: on the live line, or elsewhere as a line that stays."""
        if self._live is not None:
            self.status(text)
        elif not self._quiet:
            self._console.print(literal(text), soft_wrap=True)

    def started(self, batch_size: int, bracket: Bracket) -> None:
        """Show that a trial starts."""
        self.status(f"trying {number(batch_size)}{_known(bracket)}")

    def finished(self, measurement: Measurement, bracket: Bracket) -> None:
        """Print a line for a trial that ended."""
        if self._quiet:
            return
        line = _line(measurement)
        if self._live is None:
            line.append(_known(bracket))
        self._console.print(line, soft_wrap=True)

    def timed(self, pace: ThroughputPoint) -> None:
        """Print a line for a size that was timed."""
        if not self._quiet:
            spread = f"half of {count(pace.steps, 'step')}: {three_digits(pace.low)} to {three_digits(pace.high)}"
            line = f"{number(pace.batch_size):>11}  {per_second(pace.samples_per_second)} ({spread})"
            self._console.print(literal(line), soft_wrap=True)

    def _live_line(self) -> Progress:
        ascii_only = self._console.options.ascii_only
        live = Progress(
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


def _known(bracket: Bracket) -> str:
    known = [f"fits {number(bracket.fits)}"] if bracket.fits else []
    known += [f"fails {number(bracket.fails)}"] if bracket.fails is not None else []
    return f" ({', '.join(known)})" if known else ""
