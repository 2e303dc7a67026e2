"""Run trials and remember their results."""

from __future__ import annotations

from collections.abc import Callable

from vram_cli.progress import Progress
from vram_cli.records import Bracket, Measurement, Outcome

Measure = Callable[[int], Measurement | bool]

Guess = Callable[[], int | None]
"""Returns the size at which the limit is expected, or None. Called once, after the smallest size has run."""


class Trials:
    """Runs trials and remembers their results."""

    def __init__(
        self,
        measure: Measure,
        deadline: float | None,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._measure, self._deadline, self._clock, self._progress = measure, deadline, clock, progress
        self.history: list[Measurement] = []
        self.by_size: dict[int, Measurement] = {}
        """The latest result of each size; a trial that was killed only once does not count."""
        self.notes: list[str] = []

    def run(self, size: int, measure: Measure | None = None) -> Measurement:
        """Run a trial; repeat it once if its process was killed, which may have had another reason."""
        trial = self._run(size, measure or self._measure)
        if trial.outcome is Outcome.KILLED and not self.out_of_time():
            trial = self._run(size, measure or self._measure)
        return trial

    def _run(self, size: int, measure: Measure) -> Measurement:
        last = self.history[-1] if self.history else None
        killed_before = last is not None and (last.batch_size, last.outcome) == (size, Outcome.KILLED)
        self._progress.trial_started(size, self.bracket())
        trial = _as_measurement(measure(size), size)
        self.history.append(trial)
        if trial.outcome is not Outcome.KILLED or killed_before:
            self.by_size[size] = trial
        self._progress.trial_finished(trial, self.bracket())
        return trial

    def bracket(self) -> Bracket:
        """Return the largest size that ran and the smallest size above it that failed."""
        largest_ok = max((size for size, trial in self.by_size.items() if trial.fits), default=0)
        failed = (size for size, trial in self.by_size.items() if size > largest_ok and not trial.fits)
        return Bracket(largest_ok, min(failed, default=None))

    def successful(self) -> list[Measurement]:
        """Return the trials that fit, in order of size."""
        return [trial for _, trial in sorted(self.by_size.items()) if trial.fits]

    def out_of_time(self) -> bool:
        """Return whether no further trial may start."""
        return self._deadline is not None and self._clock() >= self._deadline


def _as_measurement(result: Measurement | bool, size: int) -> Measurement:
    if isinstance(result, bool):
        outcome = Outcome.FITS if result else Outcome.OUT_OF_MEMORY
        return Measurement(batch_size=size, outcome=outcome, steps=int(result))
    if not isinstance(result, Measurement):
        raise TypeError(f"measure({size}) returned {result!r}: return a Measurement, or True if the size fits")
    if result.batch_size != size:
        raise ValueError(f"measure({size}) returned a measurement of batch size {result.batch_size}")
    if result.fits and not result.steps:
        raise ValueError(f"measure({size}) fits without a completed step, which proves nothing")
    return result
