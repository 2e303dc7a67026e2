"""Which sizes may be tried next, if the whole search is never to need more trials than doubling and bisection.

Doubling (1, 2, 4, ... up to the first failure) and bisection find the limit N in `plain_trials(N)` trials, and these
numbers just satisfy Kraft's inequality: the sum of 2**-plain_trials(N) over all N is 1, as for the Elias gamma code,
which is the same search written down (Bentley and Yao, "An almost optimal algorithm for unbounded searching", 1976).
Because `plain_trials` never falls, a search that has used u trials and knows fits <= N < fails can still keep within it
exactly if the same sum over that bracket is at most 2**-u. So a trial may be tried if the sum on either side of it is
at most 2**-(u + 1). A jump that fits buys freedom for the next one; without freedom only the plain sizes are left.
"""

from __future__ import annotations

from bisect import bisect_left

BEYOND = 2**40
"""Above every batch size: stands for "no size has failed yet"."""

ONE = 2**82
"""The sum over all N, which makes every 2**-plain_trials(N) up to BEYOND, and a half of it, a whole number."""


def plain_trials(largest: int) -> int:
    """Return how many trials doubling and bisection need to find and prove that `largest` is the limit."""
    return 2 * largest.bit_length() if largest else 1


def tail(size: int) -> int:
    """Return the sum of 2**-plain_trials(N) over all N >= size, in parts of ONE."""
    if size <= 0:
        return ONE
    if size >= BEYOND:
        return 0
    bits = size.bit_length()
    # The rest of the octave, 2**-(2 * bits) each, and all octaves above, which halve from one to the next.
    return (ONE >> 2 * bits) * ((1 << bits) - size) + (ONE >> bits + 1)


def affordable(fits: int, fails: int, used: int, believed: int = 0) -> tuple[int, int]:
    """Return the smallest and the largest size between `fits` and `fails` that may be tried after `used` trials.

    `believed` is a size below which the limit is taken not to lie: the promise then holds for every N >= believed.
    Where the promise is broken already, it is kept with as few trials more as can be.
    """
    floor = min(max(fits, believed), fails - 1)
    share = max(ONE >> used + 1, 1)
    while 2 * share < tail(floor) - tail(fails):
        share *= 2
    return _split(fits, fails, floor, share)


def halfway(fits: int, fails: int) -> int:
    """Return the size that halves the bracket as doubling and bisection do: twice `fits`, or the middle."""
    return _split(fits, fails, fits, (tail(fits) - tail(fails)) // 2)[1]


def _split(fits: int, fails: int, floor: int, share: int) -> tuple[int, int]:
    """Return the ends of the sizes that leave at most `share` on either side of them."""
    sizes = range(fits + 1, fails)
    lowest = bisect_left(sizes, True, key=lambda size: tail(max(size, floor)) - tail(fails) <= share)
    beyond = bisect_left(sizes, True, key=lambda size: tail(floor) - tail(size) > share)
    high = sizes[max(beyond - 1, 0)]
    return min(sizes[min(lowest, len(sizes) - 1)], high), high
