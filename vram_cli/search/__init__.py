"""How the largest batch is found with few trials, and how it is proved: that size ran, the next one did not.

A trial may jump to where the measured memory points (`predict`), as long as the whole search cannot come to need more
trials than doubling and bisection (`bound`). Only the first jump is a bet: that memory grows at most in proportion to
the batch, or is less than four times as steep as at the smallest sizes. Lost, it costs one trial more than that. Where
a prediction is at hand, the first jump goes there (`expected`), and bets that it is not a quarter too high.
Predictions choose what to try, and nothing else; the answer is always something that ran, so memory that is lumpy,
noisy or not even monotone costs trials and never the truth.
"""

from __future__ import annotations

from vram_cli.search.knee import pace_of, sizes_to_time, throughput_of
from vram_cli.search.largest import find_largest
from vram_cli.search.trials import Expected, Measure

__all__ = [
    "Expected",
    "Measure",
    "find_largest",
    "pace_of",
    "sizes_to_time",
    "throughput_of",
]
