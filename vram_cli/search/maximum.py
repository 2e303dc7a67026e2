"""The search for the largest size that runs: jumps to predicted sizes, doubling and bisection without a prediction."""

from __future__ import annotations

from vram_cli.records import Limit, Outcome
from vram_cli.search.forecast import forecast, next_size, proportional
from vram_cli.search.trial_budget import BEYOND, halfway, within_trial_budget
from vram_cli.search.trials import Guess, Measure, Trials

_LIMITS = {
    Outcome.OUT_OF_MEMORY: Limit.MEMORY,
    Outcome.KERNEL_LIMIT: Limit.KERNEL_LIMIT,
    Outcome.HOST_MEMORY: Limit.HOST_MEMORY,
    # The system's own out-of-memory killer is by far the most frequent reason.
    Outcome.KILLED: Limit.HOST_MEMORY,
    Outcome.TIMED_OUT: Limit.TIME,
    Outcome.ERROR: Limit.ERROR,
}


_GUESS_ERROR = 32
"""A guess that failed is tried again minus this part of it: predictions are off by a few percent."""


class Maximum:
    """The search for the largest size."""

    def __init__(
        self,
        trials: Trials,
        *,
        capacity_bytes: int | None,
        upper_bound: int | None,
        upper_bound_limit: Limit,
        tolerance: float,
        initial_guess: Guess,
    ) -> None:
        self._trials, self._capacity_bytes = trials, capacity_bytes
        self._upper_bound = min(upper_bound or BEYOND, BEYOND - 1)
        self._upper_bound_limit, self._tolerance = upper_bound_limit, tolerance
        self._initial_guess = initial_guess
        self._guesses: list[int] | None = None
        """The initial guess and a size slightly below it; None until `initial_guess` has been called."""
        self._measure: Measure | None = None
        """Runs trials from a clean state, once a confirmation has failed; None before."""
        self._confirmed: set[int] = set()
        self._assumed_to_fit: int | None = 0
        """The size that the first jump bets on; None once a bet has been lost."""

    def find(self, confirm: Measure | None) -> Limit:
        """Close the bracket and confirm its lower end, until one holds; return the limit that stopped the search.

        Once a size has failed its confirmation, all later trials run from a clean state.
        """
        while True:
            limit = self._close_bracket()
            size = self._trials.bracket().largest_ok
            if limit is Limit.TIME or not size or confirm is None or size in self._confirmed:
                return limit
            if self._trials.out_of_time():
                self._trials.notes.append(f"the time limit came before batch size {size} was run again to confirm it")
                return limit
            if self._trials.run(size, confirm).fits:
                return limit
            if not self._trials.by_size[size].fits:
                self._trials.notes.append(f"batch size {size} ran once, and failed when run again from a clean state")
                self._measure = confirm

    def extrapolated(self, limit: Limit) -> int | None:
        """Return the size that memory alone would allow, if another limit came first."""
        lines = forecast(self._trials.successful(), self._capacity_bytes)
        if limit is Limit.MEMORY or lines is None or lines.largest <= self._trials.bracket().largest_ok:
            return None
        return lines.largest

    def _close_bracket(self) -> Limit:
        while (size := self._next_size()) is not None:
            if self._trials.out_of_time():
                return Limit.TIME
            trial = self._trials.run(size, self._measure)
            if self._measure:
                self._confirmed.add(size)
            if self._assumed_to_fit is not None and size <= self._assumed_to_fit and not trial.fits:
                self._assumed_to_fit = None
        smallest_failed = self._trials.bracket().smallest_failed
        if smallest_failed is None:
            return self._upper_bound_limit
        return _LIMITS[self._trials.by_size[smallest_failed].outcome]

    def _next_size(self) -> int | None:
        """Return the size to try next; None if the bracket is closed."""
        bracket = self._trials.bracket()
        largest_ok, smallest_failed = bracket.largest_ok, bracket.smallest_failed or BEYOND
        if not largest_ok:
            return self._smallest()
        if largest_ok == self._upper_bound or smallest_failed - 1 - largest_ok <= self._tolerance * largest_ok:
            return None
        size = self._target(largest_ok, smallest_failed)
        low, high = self._allowed(largest_ok, smallest_failed)
        if self._assumed_to_fit is not None and size >= 4 * high:
            # Doubling would creep towards a size that the lines predict far above. They may be wrong by a factor, as
            # if gradients hide the activations of a tiny batch, but hardly by four: bet on a quarter of it.
            size = max(size // 4, 2 * high)
            self._assume_fits(size)
            low, high = self._allowed(largest_ok, smallest_failed)
        return min(max(size, low), high, self._upper_bound)

    def _allowed(self, largest_ok: int, smallest_failed: int) -> tuple[int, int]:
        trials = len(self._trials.by_size)
        return within_trial_budget(largest_ok, smallest_failed, trials, self._assumed_to_fit or 0)

    def _smallest(self) -> int | None:
        """Return 1, or 2 if 1 raised an error: batch norm rightly refuses a single value per channel."""
        by_size = self._trials.by_size
        if not by_size:
            return 1
        return 2 if len(by_size) == 1 and by_size[1].outcome is Outcome.ERROR and self._upper_bound > 1 else None

    def _target(self, largest_ok: int, smallest_failed: int) -> int:
        """Return the size that measured memory predicts; without a prediction, double or bisect."""
        failed = self._trials.by_size.get(smallest_failed)
        if failed and failed.outcome is not Outcome.OUT_OF_MEMORY:
            return halfway(largest_ok, smallest_failed)
        lines = forecast(self._trials.successful(), self._capacity_bytes, failed)
        if lines is None:
            if (guess := self._guess(largest_ok, smallest_failed)) is not None:
                return guess
            jump = proportional(self._trials.by_size[largest_ok], self._capacity_bytes)
            self._assume_fits(jump)
            return jump if largest_ok < jump < smallest_failed else halfway(largest_ok, smallest_failed)
        size = next_size(lines, largest_ok, smallest_failed)
        # Aim a long jump slightly low: a size that fits there makes the line exact, one that fails costs an
        # out-of-memory error.
        return size - (size - largest_ok) // 64 if size > 4 * largest_ok else size

    def _guess(self, largest_ok: int, smallest_failed: int) -> int | None:
        """Return the initial guess, or a size slightly below it if the guess failed; then None."""
        if self._guesses is None:
            guess = min(self._initial_guess() or 0, self._upper_bound)
            self._guesses = [guess, guess - guess // _GUESS_ERROR]
            self._assume_fits(guess * 3 // 4)
        return next((size for size in self._guesses if largest_ok < size < smallest_failed), None)

    def _assume_fits(self, size: int) -> None:
        if self._assumed_to_fit is not None:
            self._assumed_to_fit = max(self._assumed_to_fit, size)
