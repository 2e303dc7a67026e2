"""Sizes that the training itself refuses: an error is the limit only if no larger size can run.

Mixup demands an even batch, triplets demand whole groups, batch norm demands two samples: their errors have nothing to
do with memory. Which sizes are accepted follows from those that ran and those that raised (`accepted_sizes`). Sizes
below the smallest that ran show nothing: they may be too small. At the answer, sizes that the rule excludes are tried
once more (`doubtful_sizes`), so that a wrong rule costs trials, but hardly ever makes the answer wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import gcd

from vram_cli.records import BatchSizes

NEAR = 3
"""Sizes above the answer that are tried before an error is taken for the limit, besides its double."""


def accepted_sizes(ran: Collection[int], raised: Collection[int], multiple_of: int) -> BatchSizes:
    """Return the sizes that the training accepts, as far as they show; all multiples if there is no better rule.

    A rule should explain every error; if none does, errors above all sizes that ran may be a limit.

    Args:
        ran: sizes that ran.
        raised: sizes that raised an error.
        multiple_of: only its multiples are tried.
    """
    every = BatchSizes(multiple_of=multiple_of)
    if not ran or not (refused := [size for size in raised if size > min(ran)]):
        return every
    rules = list(_rules(ran, multiple_of))
    # Two sizes are on many a rule by chance, except that both are multiples.
    likely = rules if len(ran) > 2 else rules[:1]
    explains_all = (sizes for sizes in likely if not any(size in sizes for size in refused))
    explains_all_below = (sizes for sizes in rules if not any(size in sizes and size < max(ran) for size in refused))
    return next(explains_all, None) or next(explains_all_below, every)


def _rules(ran: Collection[int], multiple_of: int) -> Iterator[BatchSizes]:
    """Yield rules with which all sizes that ran agree, the most likely first."""
    yield BatchSizes(multiple_of=gcd(*ran))
    if (unit := gcd(*(size - min(ran) for size in ran))) > 1:
        yield BatchSizes(multiple_of=unit, remainder=min(ran) % unit)
    if multiple_of == 1 and all(size & (size - 1) == 0 for size in ran):
        yield BatchSizes(powers_of_two=True)


def first_divisor(configured: int, tried: Collection[int], raised: Collection[int], below: int) -> int | None:
    """Return the largest divisor of a size that may run though the smallest sizes raised; None if there is none.

    If a size raises because it is no multiple of something, its divisors raise too.

    Args:
        configured: the size for which the training is written.
        tried: sizes that have been tried.
        raised: those of them that raised an error.
        below: sizes from here on cannot run.
    """
    divisors = (size for size in range(min(configured, below - 1), 0, -1) if configured % size == 0)
    return next((size for size in divisors if size not in tried and _may_run(size, raised)), None)


def smaller_divisor(ran: int, tried: Collection[int], raised: Collection[int]) -> int | None:
    """Return the divisor of a size that ran to try next, on the way to the smallest that runs; None at its end."""
    for prime in _primes(ran):
        powers: list[int] = []
        while ran % (power := prime ** (len(powers) + 1)) == 0 and _may_run(ran // power, raised):
            powers.append(power)
        # Bisect: the higher half of the powers raises if the middle one does.
        size = ran // powers[len(powers) // 2] if powers else ran
        if size not in tried:
            return size
    return None


def doubtful_sizes(
    largest_ok: int, accepted: BatchSizes, multiple_of: int, refused: Collection[int], below: int
) -> Iterator[int]:
    """Yield sizes near the answer that a rule excludes, and of which one would run by any wider rule.

    Args:
        largest_ok: the largest size that ran.
        accepted: the rule.
        multiple_of: only its multiples are tried.
        refused: sizes that raised, each of which may show that a wider rule is wrong.
        below: sizes from here on cannot run.
    """
    # An error far below shows little: code may refuse small sizes for another reason.
    excluded = [size for size in refused if size not in accepted and 2 * size > largest_ok]
    if accepted.powers_of_two:
        yield largest_ok + 1
        parts = (largest_ok >> shift for shift in range(1, largest_ok.bit_length()))
        yield next((largest_ok + part for part in parts if largest_ok + part < below), largest_ok + 1)
    for prime in _primes(accepted.multiple_of // multiple_of):
        wider = accepted.multiple_of // prime
        if all((size - largest_ok) % wider for size in excluded):
            yield largest_ok + wider if largest_ok + wider < below else largest_ok - wider


def beyond_an_error(largest_ok: int, accepted: BatchSizes, configured: int | None) -> list[int]:
    """Return the sizes that must raise as well before an error above `largest_ok` is taken for the limit."""
    number = accepted.count_to(largest_ok)
    near = [accepted.at(number + step) for step in range(2, NEAR + 1)]
    return [*near, accepted.floor(2 * largest_ok), *([configured] if configured else [])]


def _may_run(size: int, raised: Collection[int]) -> bool:
    return not any(other % size == 0 for other in raised)


def _primes(number: int) -> Iterator[int]:
    prime = 2
    while number > 1:
        if number % prime == 0:
            yield prime
            while number % prime == 0:
                number //= prime
        prime = prime + 1 if prime * prime <= number else number
