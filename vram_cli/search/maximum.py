"""The search for the largest size that runs: jumps to predicted sizes, doubling and bisection without a prediction."""

from __future__ import annotations

from vram_cli.records import BatchSizes, Limit, Outcome
from vram_cli.search.forecast import forecast
from vram_cli.search.refusals import NEAR, beyond_an_error, doubtful_sizes, first_divisor, smaller_divisor
from vram_cli.search.target import Target, roundest
from vram_cli.search.trial_budget import BEYOND, halfway, within_trial_budget
from vram_cli.search.trials import Guess, Measure, Trials

_LIMITS = {
    Outcome.OUT_OF_MEMORY: Limit.MEMORY,
    Outcome.KERNEL_LIMIT: Limit.KERNEL_LIMIT,
    Outcome.ENDED: Limit.END_OF_SCRIPT,
    Outcome.HOST_MEMORY: Limit.HOST_MEMORY,
    # The system's own out-of-memory killer is by far the most frequent reason.
    Outcome.KILLED: Limit.HOST_MEMORY,
    Outcome.TIMED_OUT: Limit.TIME,
    Outcome.ERROR: Limit.ERROR,
}


_IN_VAIN = 8
"""Errors in succession, without a rule, before only sizes near the answer are tried."""


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
        configured_size: int | None,
    ) -> None:
        self._trials, self._capacity_bytes = trials, capacity_bytes
        self._upper_bound = min(upper_bound or BEYOND, BEYOND - 1)
        self._upper_bound_limit, self._tolerance = upper_bound_limit, tolerance
        self._target = Target(trials, capacity_bytes, lambda: min(initial_guess() or 0, self._upper_bound))
        self._configured_size = configured_size
        self._is_dividing = False
        """Whether the smallest divisor of the configured size that runs is sought."""
        self._measure: Measure | None = None
        """Runs trials from a clean state, once a confirmation has failed; None before."""
        self._confirmed: set[int] = set()

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
        if limit is Limit.MEMORY or lines is None:
            return None
        size = self._trials.accepted.floor(lines.largest)
        return size if size > self._trials.bracket().largest_ok else None

    def _close_bracket(self) -> Limit:
        while (size := self._next_size()) is not None:
            if self._trials.out_of_time():
                return Limit.TIME
            trial = self._trials.run(size, self._measure)
            if self._measure:
                self._confirmed.add(size)
            assumed = self._target.assumed_to_fit
            if assumed is not None and size <= assumed and not trial.fits and trial.outcome is not Outcome.ERROR:
                self._target.assumed_to_fit = None
        smallest_failed = self._trials.proof().smallest_failed
        if smallest_failed is None:
            return self._upper_bound_limit
        return _LIMITS[self._trials.by_size[smallest_failed].outcome]

    def _next_size(self) -> int | None:
        """Return the size to try next; None if the bracket is closed."""
        bracket, accepted = self._trials.bracket(), self._trials.accepted
        largest_ok, smallest_failed = bracket.largest_ok, bracket.smallest_failed or BEYOND
        if not largest_ok:
            return self._first_size()
        if self._is_dividing:
            size = smaller_divisor(self._trials.successful()[0].batch_size, self._trials.by_size, self._trials.raised)
            if size is not None:
                return size
            self._is_dividing = False
        if self._trials.follows_no_rule:
            return self._untried(largest_ok, smallest_failed, accepted)
        gap = accepted.floor(smallest_failed - 1) - largest_ok
        if largest_ok == accepted.floor(self._upper_bound) or gap <= self._tolerance * largest_ok:
            return self._doubt(largest_ok, accepted)
        return self._between(largest_ok, smallest_failed, accepted)

    def _first_size(self) -> int | None:
        """Return the size to try while none has run: 1, or if it raised an error 2, or the config's own size.

        Batch norm rightly refuses a single value per channel.
        """
        trials, unit = self._trials, self._trials.multiple_of
        if unit not in trials.by_size:
            return unit
        raised, bound = trials.raised, min(trials.smallest_that_cannot_run() or BEYOND, self._upper_bound + 1)
        if len(raised) == len(trials.by_size) == 1:
            return 2 * unit if 2 * unit < bound else None
        if unit > 1 or self._configured_size is None or len(raised) < 2:
            return None
        self._is_dividing = True
        return first_divisor(self._configured_size, trials.by_size, raised, bound)

    def _between(self, largest_ok: int, smallest_failed: int, accepted: BatchSizes) -> int:
        """Return the size to try between two sizes, of which only accepted ones come into question."""
        # In numbers of accepted sizes: bisecting them takes fewer trials than bisecting all sizes.
        low, high = accepted.count_to(largest_ok), accepted.count_to(smallest_failed - 1) + 1
        last = accepted.count_to(self._upper_bound)
        failed = self._trials.by_size.get(smallest_failed)
        if failed and failed.outcome is Outcome.ERROR:
            return accepted.at(self._below_an_error(low, high, accepted))
        is_memory = failed is None or failed.outcome is Outcome.OUT_OF_MEMORY
        size = self._target.size(largest_ok, smallest_failed) if is_memory else None
        number = halfway(low, high) if size is None else accepted.count_to(size)
        lowest, highest = self._allowed(low, high, accepted)
        if self._target.assumed_to_fit is not None and number >= 4 * highest:
            # Doubling would creep towards a size that the lines predict far above. They may be wrong by a factor, as
            # if gradients hide the activations of a tiny batch, but hardly by four: bet on a quarter of it.
            number = max(number // 4, 2 * highest)
            self._target.bet(accepted.at(number))
            lowest, highest = self._allowed(low, high, accepted)
        return accepted.at(min(max(number, lowest), highest, last))

    def _allowed(self, low: int, high: int, accepted: BatchSizes) -> tuple[int, int]:
        trials = len(self._trials.by_size) - len(self._trials.raised)
        return within_trial_budget(low, high, trials, accepted.count_to(self._target.assumed_to_fit or 0))

    def _below_an_error(self, low: int, high: int, accepted: BatchSizes) -> int:
        """Return the number of the size to try below one that raised an error.

        The first of them may be refused alone: the next smaller one tells. A limit is most likely a power of two.
        """
        if sum(size in accepted and accepted.count_to(size) >= high for size in self._trials.raised) == 1:
            return high - 1
        if low & (low - 1) == 0 and high <= 2 * low:
            return low + 1
        return roundest(low, high) if high > 2 * low else halfway(low, high)

    def _untried(self, largest_ok: int, smallest_failed: int, accepted: BatchSizes) -> int | None:
        """Return an untried size between two sizes, if those that raise follow no rule; None after many in vain."""
        by_size, bound = self._trials.by_size, min(smallest_failed, self._upper_bound + 1)
        near = [accepted.at(accepted.count_to(largest_ok) + step) for step in range(1, NEAR + 1)]
        sizes = [*near, *beyond_an_error(largest_ok, accepted, self._configured_size)]
        in_vain = all(trial.outcome is Outcome.ERROR for trial in self._trials.history[-_IN_VAIN:])
        if not in_vain and near[0] < bound:
            size = self._between(largest_ok, smallest_failed, accepted)
            sizes = [*range(size, max(size - NEAR * accepted.multiple_of, largest_ok), -accepted.multiple_of), *sizes]
        return next((size for size in sizes if largest_ok < size < bound and size not in by_size), None)

    def _doubt(self, largest_ok: int, accepted: BatchSizes) -> int | None:
        """Return a size above the answer that may run though a rule excludes it or a smaller size raised; else None."""
        trials, bound = self._trials, min(self._trials.smallest_that_cannot_run() or BEYOND, self._upper_bound + 1)
        ran = trials.successful()[0].batch_size
        after = accepted.at(accepted.count_to(largest_ok) + 1)
        refused = [size for size in trials.raised if ran < size < after]
        sizes = [*doubtful_sizes(largest_ok, accepted, trials.multiple_of, refused, bound)]
        failed = trials.bracket().smallest_failed
        if failed and trials.by_size[failed].outcome is Outcome.ERROR:
            sizes += beyond_an_error(largest_ok, accepted, self._configured_size)
        return next((size for size in sizes if ran < size < bound and size not in trials.by_size), None)
