"""Find the largest batch size that fits with few trials, and prove it: that size ran, and the next one did not.

A trial may jump to the size that measured memory predicts (`forecast`), as long as the search as a whole can never need
more trials than doubling and bisection (`trial_budget`). Only two jumps bet. The first assumes that memory grows at
most in proportion to the batch, or less than four times as steeply as at the smallest sizes. If that is far off, the
second assumes that at least a quarter of the size fits that a parabola predicts (`curve`). A lost bet costs one trial
more than doubling and bisection. If there is an `initial_guess`, such as a prediction, the first jump goes there, and
bets that the guess is at most a quarter too high.

A size may raise an error that has nothing to do with memory. Such a size is not the limit if larger ones can run: the
search goes on among the sizes that the training accepts (`refusals`). They are counted like all sizes, and trials that
raise come on top.

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
