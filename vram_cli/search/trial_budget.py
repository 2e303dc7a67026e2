"""Limit the sizes to try next, so that the search never needs more trials than doubling and bisection.

Doubling (1, 2, 4, ... up to the first failure) and bisection find the limit N in `bisection_trials(N)` trials. These
numbers satisfy Kraft's inequality with equality: the sum of 2**-bisection_trials(N) over all N is 1, as for the Elias
gamma code, which is the same search written down (Bentley and Yao, "An almost optimal algorithm for unbounded
searching", 1976). Since `bisection_trials` never decreases, a search that has used u trials and knows
largest_ok <= N < smallest_failed can keep within it exactly if the same sum over that bracket is at most 2**-u. So a
size may be tried if the sum on either side of it is at most 2**-(u + 1). A jump that fits gives room for the next one;
without room, only the sizes of doubling and bisection are left.
"""

from __future__ import annotations

from bisect import bisect_left

BEYOND = 2**40
"""A number above every batch size: stands for "no size has failed yet"."""

ONE = 2**82
"""The sum over all N, scaled so that 2**-bisection_trials(N) up to BEYOND, and half of it, are whole numbers."""


def bisection_trials(largest: int) -> int:
    """Return the number of trials in which doubling and bisection prove that `largest` is the limit."""
    return 2 * largest.bit_length() if largest else 1


def remaining_share(size: int) -> int:
    """Return the sum of 2**-bisection_trials(N) over all N >= size, in parts of ONE."""
    if size <= 0:
        return ONE
    if size >= BEYOND:
        return 0
    bits = size.bit_length()
    # The rest of the octave, 2**-(2 * bits) each, and all octaves above, each of which has half the sum of the last.
    return (ONE >> 2 * bits) * ((1 << bits) - size) + (ONE >> bits + 1)


def within_trial_budget(largest_ok: int, smallest_failed: int, trials: int, assumed_to_fit: int = 0) -> tuple[int, int]:
    """Return the smallest and the largest size that may be tried after `trials` trials.

    The limit is assumed to be at least `assumed_to_fit`: the guarantee then holds for every N >= assumed_to_fit. If the
    guarantee is already broken, it is exceeded by as few trials as possible.
    """
    floor = min(max(largest_ok, assumed_to_fit), smallest_failed - 1)
    share = max(ONE >> trials + 1, 1)
    while 2 * share < remaining_share(floor) - remaining_share(smallest_failed):
        share *= 2
    return _split(largest_ok, smallest_failed, floor, share)


def halfway(largest_ok: int, smallest_failed: int) -> int:
    """Return the size that doubling and bisection try next: twice `largest_ok`, or the middle."""
    share = (remaining_share(largest_ok) - remaining_share(smallest_failed)) // 2
    return _split(largest_ok, smallest_failed, largest_ok, share)[1]


def _split(largest_ok: int, smallest_failed: int, floor: int, share: int) -> tuple[int, int]:
    """Return the smallest and the largest size that leave at most `share` on either side."""
    sizes = range(largest_ok + 1, smallest_failed)
    end = remaining_share(smallest_failed)
    lowest = bisect_left(sizes, True, key=lambda size: remaining_share(max(size, floor)) - end <= share)
    too_high = bisect_left(sizes, True, key=lambda size: remaining_share(floor) - remaining_share(size) > share)
    high = sizes[max(too_high - 1, 0)]
    return min(sizes[min(lowest, len(sizes) - 1)], high), high
