"""The batch sizes that a training accepts."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """The sizes that a training accepts: all of them, or those of a rule. Their numbers count from 1.

    Raises:
        ValueError: there is no such rule.
    """

    multiple_of: int = 1
    """Sizes are multiples of this, plus the remainder."""
    remainder: int = 0
    """Remainder of every size, as in 1 for odd sizes; below `multiple_of`."""
    powers_of_two: bool = False
    """Whether only powers of two are accepted."""

    def __post_init__(self) -> None:
        if not 0 <= self.remainder < self.multiple_of:
            raise ValueError(f"no size is a multiple of {self.multiple_of} plus {self.remainder}")

    def __contains__(self, size: int) -> bool:
        """Return whether the training accepts a size."""
        return size >= 1 and self.floor(size) == size

    @property
    def are_all(self) -> bool:
        """Whether every size is accepted."""
        return self.multiple_of == 1 and not self.powers_of_two

    def count_to(self, size: int) -> int:
        """Return how many sizes there are up to `size`: the number of `size`, if it is one of them."""
        if self.powers_of_two:
            return max(size, 0).bit_length()
        return (size - self.remainder) // self.multiple_of + (self.remainder > 0)

    def at(self, number: int) -> int:
        """Return the size with a number."""
        if self.powers_of_two:
            return 1 << number - 1
        return self.multiple_of * (number - (self.remainder > 0)) + self.remainder

    def floor(self, size: int) -> int:
        """Return the largest size up to `size`; 0 if there is none."""
        number = self.count_to(size)
        return self.at(number) if number > 0 else 0

    def multiples(self, multiple_of: int) -> BatchSizes | None:
        """Return those sizes that are multiples of a number; None if there are none, or hardly any.

        Powers of two are multiples of a power of two from that on, and of no other number.
        """
        if self.powers_of_two:
            return self if multiple_of & (multiple_of - 1) == 0 else None
        if self.remainder % gcd(self.multiple_of, multiple_of):
            return None
        unit = lcm(self.multiple_of, multiple_of)
        first = next(size for size in range(self.remainder, unit + 1, self.multiple_of) if size % multiple_of == 0)
        return BatchSizes(multiple_of=unit, remainder=first % unit)

    def __str__(self) -> str:
        """Return the sizes as a noun: "multiples of 32"."""
        if self.powers_of_two:
            return "powers of two"
        if self.remainder:
            return "odd sizes" if self.multiple_of == 2 else f"multiples of {self.multiple_of} plus {self.remainder}"
        return "all sizes" if self.multiple_of == 1 else f"multiples of {self.multiple_of}"
