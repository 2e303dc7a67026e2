"""The search for the recommended size: a round size that leaves the margin free, and that runs like any other."""

from __future__ import annotations

from vram_cli.records import BatchSizes, Measurement
from vram_cli.search.forecast import choose_next, forecast
from vram_cli.search.trials import Trials


class Recommended:
    """The search for the largest round size, up to the maximum, that leaves the margin free."""

    def __init__(self, trials: Trials, limit_bytes: int | None, multiple_of: int) -> None:
        self._trials, self._limit_bytes, self._multiple_of = trials, limit_bytes, multiple_of
        self._takes_any = False
        """Whether sizes that are no multiple are taken, because no multiple is suitable."""

    @property
    def size(self) -> int | None:
        """The largest suitable size that ran; None if there is none."""
        suitable = [trial.batch_size for trial in self._round_trials() if self._is_suitable(trial)]
        return max(suitable, default=None)

    def find(self) -> None:
        """Run the recommended size, and the next round one if it is not above the maximum."""
        top = self._trials.bracket().largest_ok
        is_closed = self._close_bracket(top)
        if is_closed and top and self.size is None and self._multiple_of > 1:
            multiples = self._sizes
            self._trials.notes.append(
                f"no multiple of {self._multiple_of} can be recommended, so smaller sizes were tried"
            )
            top, self._takes_any = min(top, multiples.at(1) - 1) if multiples else top, True
            is_closed = self._close_bracket(top)
        if not is_closed:
            self._trials.notes.append("the time limit came before the size to recommend was known")
        elif top and self.size is None:
            self._trials.notes.append("no size can be recommended: none leaves the margin free without thrashing")

    @property
    def _sizes(self) -> BatchSizes | None:
        """The sizes in question: multiples, as far as the training accepts them; None if it accepts none."""
        accepted = self._trials.accepted
        return accepted if self._takes_any else accepted.multiples(self._multiple_of)

    def _close_bracket(self, top: int) -> bool:
        """Close the bracket, counted in sizes; return whether it is closed."""
        while (sizes := self._sizes) is not None:
            largest_ok = sizes.count_to(self.size or 0)
            unsuitable = [
                sizes.count_to(trial.batch_size) for trial in self._round_trials() if not self._is_suitable(trial)
            ]
            above = [number for number in unsuitable if number > largest_ok]
            smallest_failed = min([*above, sizes.count_to(top) + 1])
            if smallest_failed - largest_ok <= 1 or self._trials.out_of_time():
                return smallest_failed - largest_ok <= 1
            lines = forecast(self._trials.successful(), self._limit_bytes)
            target = sizes.count_to(min(lines.largest, top) if lines else top)
            granularity = max(lines.granularity // sizes.multiple_of, 1) if lines else 1
            self._trials.run(sizes.at(choose_next(target, granularity, largest_ok, smallest_failed)))
        return True

    def _round_trials(self) -> list[Measurement]:
        sizes = self._sizes
        return [trial for size, trial in self._trials.by_size.items() if sizes is not None and size in sizes]

    def _is_suitable(self, trial: Measurement) -> bool:
        limit = self._limit_bytes
        return trial.fits and not trial.thrashing and (limit is None or trial.peak_reserved_bytes <= limit)
