"""Choose the size to try next from measured memory: on lines, on a parabola, or at a jump between them."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.search.curve import largest_on_curve
from vram_cli.search.forecast import Forecast, choose_next, forecast, next_size, proportional
from vram_cli.search.trial_budget import BEYOND
from vram_cli.search.trials import Guess, Trials

_GUESS_ERROR = 32
"""A guess that failed is tried again minus this part of it: predictions are off by a few percent."""

_FAR_OFF = 16
"""A line that ends by this part above a size that failed is no line."""

_SMALL = 128
"""A step up by less than this part of the size is small; after two of them the lines do not see the limit."""


class Target:
    """The choice of the size at which the limit is expected.

    Args:
        trials: the trials so far.
        capacity_bytes: bytes that the allocator may reserve; None if they are not known.
        initial_guess: returns the size to jump to first.

    Attributes:
        assumed_to_fit: the size that the jumps so far bet on; None once a bet has been lost.
    """

    def __init__(self, trials: Trials, capacity_bytes: int | None, initial_guess: Guess) -> None:
        self._trials, self._capacity_bytes, self._initial_guess = trials, capacity_bytes, initial_guess
        self._guesses: list[int] | None = None
        """The initial guess and a size slightly below it; None until `initial_guess` has been called."""
        self._small_steps = 0
        self._has_bet_on_curve = False
        self.assumed_to_fit: int | None = 0

    def size(self, largest_ok: int, smallest_failed: int) -> int | None:
        """Return the size at which memory is expected to run out; None without an expectation."""
        failed = self._trials.by_size.get(smallest_failed)
        successful = self._trials.successful()
        lines = forecast(successful, self._capacity_bytes, failed)
        if lines is None:
            return self._first_jump(largest_ok, smallest_failed)
        expected = self._trials.history[-1].expected_largest
        if expected is not None and largest_ok <= expected < smallest_failed:
            self.bet(expected * 3 // 4)
            return max(expected, largest_ok + 1)
        # A failure that lacked far more than the lines expect is on no line, nor is the bound that follows from it.
        is_off = lines.bound < min(lines.largest, smallest_failed) // 2
        if is_off:
            lines = replace(lines, bound=BEYOND)
        if is_off or lines.largest >= smallest_failed <= lines.bound + 1:
            size = self._off_the_lines(lines, largest_ok, smallest_failed, is_far_off=is_off)
            if size is not None:
                return size
        size = next_size(lines, largest_ok, smallest_failed)
        if (steps := self._count_small_steps(largest_ok) - 1) > 1 and size - largest_ok < 4**steps:
            return _round_step(4**steps, largest_ok, smallest_failed)
        # Aim a long jump slightly low: a size that fits there makes the line exact, one that fails costs an
        # out-of-memory error.
        return size - (size - largest_ok) // 64 if size > 4 * largest_ok else size

    def bet(self, size: int) -> None:
        """Bet that a size fits, unless a bet has been lost."""
        if self.assumed_to_fit is not None:
            self.assumed_to_fit = max(self.assumed_to_fit, size)

    def _first_jump(self, largest_ok: int, smallest_failed: int) -> int | None:
        """Return the initial guess, slightly less if it failed, or what fits if memory is proportional to the batch."""
        if self._guesses is None:
            guess = self._initial_guess() or 0
            self._guesses = [guess, guess - guess // _GUESS_ERROR]
            self.bet(guess * 3 // 4)
        guesses = [size for size in self._guesses if largest_ok < size < smallest_failed]
        if guesses:
            return guesses[0]
        jump = proportional(self._trials.by_size[largest_ok], self._capacity_bytes)
        self.bet(jump)
        return jump if largest_ok < jump < smallest_failed else None

    def _off_the_lines(self, lines: Forecast, largest_ok: int, smallest_failed: int, *, is_far_off: bool) -> int | None:
        """Return the size to try after a size failed that fits on the lines; None if it is only a little above them."""
        if smallest_failed < 2 * largest_ok and lines.largest - largest_ok >= 4 * (smallest_failed - largest_ok):
            return roundest(largest_ok, smallest_failed)  # so little more would not take it: memory jumps
        is_far_off = is_far_off or lines.largest - smallest_failed > smallest_failed // _FAR_OFF
        successful = self._trials.successful()
        curve = largest_on_curve(successful, self._capacity_bytes or 0)
        if curve is None or not (is_far_off or self._has_bet_on_curve):
            return None
        if is_far_off and not self._has_bet_on_curve:
            self._has_bet_on_curve = True
            self.assumed_to_fit = max(self.assumed_to_fit or 0, curve // 4)
        return choose_next(curve, lines.granularity, largest_ok, smallest_failed)

    def _count_small_steps(self, largest_ok: int) -> int:
        """Return the number of small steps up so far."""
        sizes = [trial.batch_size for trial in self._trials.successful()]
        if self._trials.history[-1].batch_size == largest_ok and (largest_ok - sizes[-2]) * _SMALL <= largest_ok:
            self._small_steps += 1
        return self._small_steps


def roundest(largest_ok: int, smallest_failed: int) -> int:
    """Return the multiple of the highest power of two between two sizes; if that is `largest_ok`, the next size.

    Code pads batches and makes tables for round sizes, so memory jumps and code refuses just above them.
    """
    unit = 1 << max((largest_ok ^ (smallest_failed - 1)).bit_length() - 1, 0)
    size = (smallest_failed - 1) // unit * unit
    return size if size > largest_ok else largest_ok + 1


def _round_step(step: int, largest_ok: int, smallest_failed: int) -> int:
    """Return the next multiple of `step`, or the roundest size below the one that failed."""
    size = (largest_ok + step) // step * step
    return size if size < smallest_failed else roundest(largest_ok, smallest_failed)
