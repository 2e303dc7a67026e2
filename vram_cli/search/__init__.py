"""Find the largest batch size that fits with few trials, and prove it: that size ran, and the next one did not.

A trial may jump to the size that measured memory predicts (`forecast`), as long as the search as a whole can never need
more trials than doubling and bisection (`trial_budget`). Only the first jump bets: it assumes that memory grows at most
in proportion to the batch, or less than four times as steeply as at the smallest sizes. A lost bet costs one trial more
than doubling and bisection. If there is an `initial_guess`, such as a prediction, the first jump goes there, and bets
that the guess is at most a quarter too high.

Predictions only choose which size to try. The answer is always a size that ran, so memory that grows in large steps,
varies or is not even monotone costs trials, but never makes the answer wrong.
"""

from __future__ import annotations

from vram_cli.search.largest import find_largest
from vram_cli.search.throughput import sizes_to_time, throughput_of, throughput_point
from vram_cli.search.trials import Guess, Measure

__all__ = [
    "Guess",
    "Measure",
    "find_largest",
    "sizes_to_time",
    "throughput_of",
    "throughput_point",
]
