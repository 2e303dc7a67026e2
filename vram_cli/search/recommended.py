"""The search for the size to recommend: round, with the margin left free, and run like any other."""

from __future__ import annotations

from vram_cli.records import Measurement
from vram_cli.search.forecast import aim, forecast
from vram_cli.search.trials import Trials


class Recommended:
    """The search for the largest round size that leaves the margin free, among sizes up to the maximum."""

    def __init__(self, trials: Trials, limit_bytes: int | None, multiple_of: int) -> None:
        self._trials, self._limit_bytes, self._unit = trials, limit_bytes, multiple_of

    @property
    def size(self) -> int | None:
        """The largest one that ran; None where there is none."""
        good = [trial.batch_size for trial in self._round_trials() if self._is_good(trial)]
        return max(good, default=None)

    def find(self) -> None:
        """Run what is needed to know it: that size, and the next round one unless it is above the maximum."""
        top = self._trials.bracket().fits
        known = self._close(top)
        if known and top and self.size is None and self._unit > 1:
            self._trials.notes.append(f"no multiple of {self._unit} can be recommended, so smaller sizes were tried")
            top, self._unit = min(top, self._unit - 1), 1
            known = self._close(top)
        if not known:
            self._trials.notes.append("time was over before it was known which size to recommend")
        elif top and self.size is None:
            self._trials.notes.append("no size can be recommended: none leaves the margin free without thrashing")

    def _close(self, top: int) -> bool:
        """Close the bracket, counted in units; return whether it is closed."""
        while True:
            good = (self.size or 0) // self._unit
            bad = [trial.batch_size // self._unit for trial in self._round_trials() if not self._is_good(trial)]
            end = min([units for units in bad if units > good] + [top // self._unit + 1])
            if end - good <= 1 or self._trials.time_is_over():
                return end - good <= 1
            lines = forecast(self._trials.fitting(), self._limit_bytes)
            target = min(lines.largest if lines else top, top) // self._unit
            lump = max(lines.lump // self._unit, 1) if lines else 1
            self._trials.run(aim(target, lump, good, end) * self._unit)

    def _round_trials(self) -> list[Measurement]:
        return [trial for size, trial in self._trials.verdicts.items() if size % self._unit == 0]

    def _is_good(self, trial: Measurement) -> bool:
        limit = self._limit_bytes
        return trial.fits and not trial.thrashing and (limit is None or trial.peak_reserved_bytes <= limit)
