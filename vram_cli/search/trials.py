"""Running trials and remembering them: what fitted, what did not, and what lies between."""

from __future__ import annotations

from collections.abc import Callable

from vram_cli.progress import Progress
from vram_cli.records import Bracket, Measurement, Outcome

Measure = Callable[[int], Measurement | bool]

Expected = Callable[[], int | None]
"""Where the limit is expected to lie, from outside; None for no idea. Asked once, after the smallest size has run."""


class Trials:
    """Runs trials and remembers them."""

    def __init__(
        self,
        measure: Measure,
        deadline: float | None,
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._measure, self._deadline, self._clock, self._progress = measure, deadline, clock, progress
        self.ran: list[Measurement] = []
        self.verdicts: dict[int, Measurement] = {}
        """The last word on each size; a trial that was killed once has none."""
        self.notes: list[str] = []

    def run(self, size: int, measure: Measure | None = None) -> Measurement:
        """Run a trial, and once more where its process was killed: that may have been meant for somebody else."""
        trial = self._run(size, measure or self._measure)
        if trial.outcome is Outcome.KILLED and not self.time_is_over():
            trial = self._run(size, measure or self._measure)
        return trial

    def _run(self, size: int, measure: Measure) -> Measurement:
        killed_before = bool(self.ran) and (self.ran[-1].batch_size, self.ran[-1].outcome) == (size, Outcome.KILLED)
        self._progress.trial_started(size, self.bracket())
        trial = _as_measurement(measure(size), size)
        self.ran.append(trial)
        if trial.outcome is not Outcome.KILLED or killed_before:
            self.verdicts[size] = trial
        self._progress.trial_finished(trial, self.bracket())
        return trial

    def bracket(self) -> Bracket:
        """Return the largest size that ran and the smallest above it that did not."""
        fits = max((size for size, trial in self.verdicts.items() if trial.fits), default=0)
        above = (size for size, trial in self.verdicts.items() if size > fits and not trial.fits)
        return Bracket(fits, min(above, default=None))

    def fitting(self) -> list[Measurement]:
        """Return the trials that fit, in order of size."""
        return [trial for _, trial in sorted(self.verdicts.items()) if trial.fits]

    def time_is_over(self) -> bool:
        """Return whether no further trial may be started."""
        return self._deadline is not None and self._clock() >= self._deadline


def _as_measurement(answer: Measurement | bool, size: int) -> Measurement:
    if isinstance(answer, bool):
        outcome = Outcome.FITS if answer else Outcome.OUT_OF_MEMORY
        return Measurement(batch_size=size, outcome=outcome, steps=int(answer))
    if not isinstance(answer, Measurement):
        raise TypeError(f"measure({size}) returned {answer!r}: return a Measurement, or True if the size fits")
    if answer.batch_size != size:
        raise ValueError(f"measure({size}) ran a batch of {answer.batch_size}: that says nothing about {size}")
    if answer.fits and not answer.steps:
        raise ValueError(f"measure({size}) says that it fits without one full step: that proves nothing")
    return answer
