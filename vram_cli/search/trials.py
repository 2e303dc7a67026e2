"""Run trials and remember their results."""

from __future__ import annotations

from collections.abc import Callable

from vram_cli.progress import Progress
from vram_cli.records import BatchSizes, Bracket, Measurement, Outcome, Refusal
from vram_cli.search.refusals import NEAR, accepted_sizes

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
        multiple_of: int = 1,
    ) -> None:
        self.multiple_of = multiple_of
        """Only its multiples are tried."""
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

    @property
    def raised(self) -> list[int]:
        """The sizes whose last trial raised an error."""
        return [size for size, trial in self.by_size.items() if trial.outcome is Outcome.ERROR]

    @property
    def accepted(self) -> BatchSizes:
        """The sizes that the training accepts, as far as the trials show."""
        ran = [size for size, trial in self.by_size.items() if trial.fits]
        return accepted_sizes(ran, self.raised, self.multiple_of)

    @property
    def follows_no_rule(self) -> bool:
        """Whether a size raised between sizes that ran, and no rule says why: then no error is a limit by itself."""
        if not (ran := self.successful()) or not (raised := self.raised):
            return False
        accepted, smallest, largest = self.accepted, ran[0].batch_size, ran[-1].batch_size
        return any(smallest < size < largest and size in accepted for size in raised)

    def bracket(self) -> Bracket:
        """Return the largest size that ran and the smallest size above it that failed, and was not refused."""
        largest_ok = max((size for size, trial in self.by_size.items() if trial.fits), default=0)
        limiting = [] if self.follows_no_rule else [size for size in self.raised if size in self.accepted]
        failed = [size for size, trial in self.by_size.items() if not trial.fits and trial.outcome is not Outcome.ERROR]
        return Bracket(largest_ok, min((size for size in [*failed, *limiting] if size > largest_ok), default=None))

    def smallest_that_cannot_run(self) -> int | None:
        """Return the smallest size that failed for another reason than an error; None if there is none."""
        sizes = (size for size, trial in self.by_size.items() if not trial.fits and trial.outcome is not Outcome.ERROR)
        return min((size for size in sizes if size > self.bracket().largest_ok), default=None)

    def proof(self) -> Bracket:
        """Return the bracket that is the proof of the answer.

        An error next to a size that runs out of memory is no limit, but a size that the training refuses.
        """
        largest_ok, accepted = self.bracket().largest_ok, self.accepted
        cannot_run = self.smallest_that_cannot_run()
        raised = min((size for size in self.raised if size > largest_ok and size in accepted), default=None)
        if raised is None or cannot_run is None:
            return Bracket(largest_ok, cannot_run or raised)
        is_next = accepted.count_to(cannot_run) - accepted.count_to(largest_ok) <= NEAR
        return Bracket(largest_ok, cannot_run if is_next else min(raised, cannot_run))

    def refused(self) -> Refusal | None:
        """Return the refused size that is nearest to the answer; None if no size was refused.

        An error is no refusal if it is the limit or above it, or below all sizes that ran.
        """
        bracket, accepted, ran = self.proof(), self.accepted, self.successful()
        largest_ok, limit = bracket.largest_ok, bracket.smallest_failed
        is_error = limit is not None and self.by_size[limit].outcome is Outcome.ERROR
        sizes = [
            size
            for size in self.raised
            if ran
            and ran[0].batch_size < size != limit
            and (size < (limit or 0) or (size not in accepted and not is_error))
        ]
        nearest = min(sizes, key=lambda size: abs(size - largest_ok), default=None)
        return None if nearest is None else Refusal(batch_size=nearest, message=self.by_size[nearest].message)

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
