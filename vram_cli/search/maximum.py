"""The search for the largest size that runs: jumps where memory points, plain steps where it says nothing."""

from __future__ import annotations

from vram_cli.records import Limit, Outcome
from vram_cli.search.forecast import forecast, next_size, proportional
from vram_cli.search.trial_budget import BEYOND, affordable, halfway
from vram_cli.search.trials import Expected, Measure, Trials

_LIMITS = {
    Outcome.OUT_OF_MEMORY: Limit.MEMORY,
    Outcome.KERNEL_LIMIT: Limit.KERNEL_LIMIT,
    Outcome.HOST_MEMORY: Limit.HOST_MEMORY,
    # The system's own out-of-memory killer is by far the most frequent reason.
    Outcome.KILLED: Limit.HOST_MEMORY,
    Outcome.TIMED_OUT: Limit.TIME,
    Outcome.ERROR: Limit.ERROR,
}


_EXPECTED_ERROR = 32
"""An expectation that has failed is tried again less one part in so many: predictions are off by a few per cent."""


class Maximum:
    """The search for the largest size."""

    def __init__(
        self,
        trials: Trials,
        *,
        capacity_bytes: int | None,
        cap: int | None,
        cap_limit: Limit,
        tolerance: float,
        expected: Expected,
    ) -> None:
        self._trials, self._capacity_bytes = trials, capacity_bytes
        self._cap = min(cap or BEYOND, BEYOND - 1)
        self._cap_limit, self._tolerance = cap_limit, tolerance
        self._expected = expected
        self._expectations: list[int] | None = None
        """Where the limit is expected from outside, and a little below it; None as long as nobody has asked."""
        self._measure: Measure | None = None
        """What runs trials in a fresh state, once they have to be; None before."""
        self._fresh: set[int] = set()
        self._believed: int | None = 0
        """A size that is taken to fit: what the first jump bets on; None once it has failed."""

    def find(self, confirm: Measure | None) -> Limit:
        """Close the bracket and run its lower end in a fresh state, until one holds; return what stopped the search.

        Once a size has failed there, all further trials run in a fresh state.
        """
        while True:
            limit = self._close()
            fits = self._trials.bracket().fits
            if limit is Limit.TIME or not fits or confirm is None or fits in self._fresh:
                return limit
            if self._trials.time_is_over():
                self._trials.notes.append(f"time was over before batch size {fits} was run again in a fresh state")
                return limit
            if self._trials.run(fits, confirm).fits:
                return limit
            if not self._trials.verdicts[fits].fits:
                self._trials.notes.append(f"batch size {fits} ran once, and failed when run again in a fresh state")
                self._measure = confirm

    def extrapolated(self, limit: Limit) -> int | None:
        """Return what memory alone would allow, where something else came first."""
        lines = forecast(self._trials.fitting(), self._capacity_bytes)
        if limit is Limit.MEMORY or lines is None or lines.largest <= self._trials.bracket().fits:
            return None
        return lines.largest

    def _close(self) -> Limit:
        while (size := self._next_size()) is not None:
            if self._trials.time_is_over():
                return Limit.TIME
            trial = self._trials.run(size, self._measure)
            if self._measure:
                self._fresh.add(size)
            if self._believed is not None and size <= self._believed and not trial.fits:
                self._believed = None
        bracket = self._trials.bracket()
        if bracket.fails is None:
            return self._cap_limit
        return _LIMITS[self._trials.verdicts[bracket.fails].outcome]

    def _next_size(self) -> int | None:
        """Return the size to try next; None where the answer is known."""
        bracket = self._trials.bracket()
        fits, fails = bracket.fits, bracket.fails or BEYOND
        if not fits:
            return self._smallest()
        if fits == self._cap or fails - 1 - fits <= self._tolerance * fits:
            return None
        size = self._guess(fits, fails)
        low, high = self._affordable(fits, fails)
        if self._believed is not None and size >= 4 * high:
            # Plain steps would crawl towards a size that the lines see far above. They may be wrong by a factor, as
            # where gradients hide the activations of a tiny batch, but hardly by four: bet on a quarter of it.
            size = max(size // 4, 2 * high)
            self._believe(size)
            low, high = self._affordable(fits, fails)
        return min(max(size, low), high, self._cap)

    def _affordable(self, fits: int, fails: int) -> tuple[int, int]:
        return affordable(fits, fails, len(self._trials.verdicts), self._believed or 0)

    def _smallest(self) -> int | None:
        """Return 1, or 2 where 1 raised an error: batch norm refuses a single value a channel, and rightly so."""
        tried = self._trials.verdicts
        if not tried:
            return 1
        return 2 if len(tried) == 1 and tried[1].outcome is Outcome.ERROR and self._cap > 1 else None

    def _guess(self, fits: int, fails: int) -> int:
        """Return the size that the measured memory points at; without a word from it, twice `fits` or the middle."""
        failed = self._trials.verdicts.get(fails)
        if failed and failed.outcome is not Outcome.OUT_OF_MEMORY:
            return halfway(fits, fails)
        lines = forecast(self._trials.fitting(), self._capacity_bytes, failed)
        if lines is None:
            if (expectation := self._expectation(fits, fails)) is not None:
                return expectation
            jump = proportional(self._trials.verdicts[fits], self._capacity_bytes)
            self._believe(jump)
            return jump if fits < jump < fails else halfway(fits, fails)
        size = next_size(lines, fits, fails)
        # Reaching far, aim a little low: what fits there makes the line exact, what fails costs an out-of-memory error.
        return size - (size - fits) // 64 if size > 4 * fits else size

    def _expectation(self, fits: int, fails: int) -> int | None:
        """Return where the limit is expected from outside; where that has failed, a little less; then None."""
        if self._expectations is None:
            largest = min(self._expected() or 0, self._cap)
            self._expectations = [largest, largest - largest // _EXPECTED_ERROR]
            self._believe(largest * 3 // 4)
        return next((size for size in self._expectations if fits < size < fails), None)

    def _believe(self, size: int) -> None:
        if self._believed is not None:
            self._believed = max(self._believed, size)
