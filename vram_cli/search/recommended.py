"""The search for the recommended size: a round size that leaves the margin free, and that runs like any other."""

from __future__ import annotations

from vram_cli.records import Measurement
from vram_cli.search.forecast import choose_next, forecast
from vram_cli.search.trials import Trials


class Recommended:
    """The search for the largest round size, up to the maximum, that leaves the margin free."""

    def __init__(self, trials: Trials, limit_bytes: int | None, multiple_of: int) -> None:
        self._trials, self._limit_bytes, self._unit = trials, limit_bytes, multiple_of

    @property
    def size(self) -> int | None:
        """The largest suitable size that ran; None if there is none."""
        suitable = [trial.batch_size for trial in self._round_trials() if self._is_suitable(trial)]
        return max(suitable, default=None)

    def find(self) -> None:
        """Run the recommended size, and the next round one if it is not above the maximum."""
        top = self._trials.bracket().largest_ok
        is_closed = self._close_bracket(top)
        if is_closed and top and self.size is None and self._unit > 1:
            self._trials.notes.append(f"no multiple of {self._unit} can be recommended, so smaller sizes were tried")
            top, self._unit = min(top, self._unit - 1), 1
            is_closed = self._close_bracket(top)
        if not is_closed:
            self._trials.notes.append("the time limit came before the size to recommend was known")
        elif top and self.size is None:
            self._trials.notes.append("no size can be recommended: none leaves the margin free without thrashing")

    def _close_bracket(self, top: int) -> bool:
        """Close the bracket, counted in units; return whether it is closed."""
        while True:
            largest_ok = (self.size or 0) // self._unit
            unsuitable = [
                trial.batch_size // self._unit for trial in self._round_trials() if not self._is_suitable(trial)
            ]
            smallest_failed = min([units for units in unsuitable if units > largest_ok] + [top // self._unit + 1])
            if smallest_failed - largest_ok <= 1 or self._trials.out_of_time():
                return smallest_failed - largest_ok <= 1
            lines = forecast(self._trials.successful(), self._limit_bytes)
            target = min(lines.largest if lines else top, top) // self._unit
            granularity = max(lines.granularity // self._unit, 1) if lines else 1
            self._trials.run(choose_next(target, granularity, largest_ok, smallest_failed) * self._unit)

    def _round_trials(self) -> list[Measurement]:
        return [trial for size, trial in self._trials.by_size.items() if size % self._unit == 0]

    def _is_suitable(self, trial: Measurement) -> bool:
        limit = self._limit_bytes
        return trial.fits and not trial.thrashing and (limit is None or trial.peak_reserved_bytes <= limit)
