"""How fast sizes up to the largest train: first each is run for its memory, then each is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vram_cli.config import Config
from vram_cli.errors import ConfigError, VramError
from vram_cli.records import Measurement, SearchResult, Throughput, ThroughputPoint
from vram_cli.search import Bracket, SearchListener, pace_of, sizes_to_time, throughput_of

_NOISY = (
    "the steps of the fastest size vary by more than the knee may be slower, so it may well be another size: time them "
    "again while nothing else uses this machine"
)


def refuse_to_predict(config: Config, card: str | None) -> None:
    """Refuse to tell the throughput of a card that is not here.

    Args:
        config: its `search.objective` says whether that is asked for.
        card: what would be predicted; None for nothing.

    Raises:
        ConfigError: it is.
    """
    if config.search.objective == "throughput" and card is not None:
        raise ConfigError(
            f"search.objective: throughput is measured, and cannot be predicted for {card}",
            "leave --gpu (device.gpu) out where the card is, or --device cpu times this computer; "
            "to predict the largest batch, --objective largest",
        )


class ThroughputSweep:
    """Runs and times sizes one after the other; what is known can be told at any moment.

    Args:
        config: what is trained.
        found: the search that has found the largest size.
        deadline: `time.monotonic()` value after which no further size is begun, or None.
        listener: told of each trial that is run for its memory.
        status: told what is going on.
        timed: told how fast each size trains.

    Attributes:
        found: the search, with what was learned since.
    """

    def __init__(
        self,
        config: Config,
        found: SearchResult,
        *,
        deadline: float | None = None,
        listener: SearchListener | None = None,
        status: Callable[[str], None] = lambda _: None,
        timed: Callable[[ThroughputPoint], None] = lambda _: None,
    ) -> None:
        self.found = found
        self._accumulate = config.micro_batches_per_step
        self._deadline, self._listener, self._status, self._timed = deadline, listener, status, timed
        self._ran = {trial.batch_size: trial.fits for trial in found.trials}
        smallest = min(size for size, fits in self._ran.items() if fits)
        self._sizes = sizes_to_time(smallest, found.max_batch_size or smallest, (found.recommended_batch_size,))
        self._paces: list[ThroughputPoint] = []

    @property
    def throughput(self) -> Throughput | None:
        """What is known by now; None where nothing has been timed."""
        return throughput_of(self._paces, len(self._sizes))

    def run(self, measure: Callable[[int], Measurement], turn_to_timing: Callable[[], None]) -> None:
        """Run all sizes.

        Args:
            measure: runs one, for its memory at first and for the clock later.
            turn_to_timing: called between the two.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was found by then is there.
        """
        try:
            for size in self._sizes:
                if size not in self._ran and self._has_time():
                    self._weigh(size, measure)
            if self._has_time():
                self._status("starting the process that times steps")
                turn_to_timing()
            for size in self._sizes:
                if self._ran.get(size) and self._has_time():
                    self._time(size, measure)
        except VramError as error:  # the largest size is known and proved: it is told all the same
            self._note(f"throughput was not measured to the end: {error.message}")
        if len(self._paces) < len(self._sizes) and not self._has_time():
            self._note("time was over before all sizes were timed")
        if self.throughput and self.throughput.is_noisy:
            self._note(_NOISY)

    def _weigh(self, size: int, measure: Callable[[int], Measurement]) -> None:
        proof = self.found.certificate
        bracket = Bracket(self.found.max_batch_size or 0, proof.fails if proof else None)
        if self._listener:
            self._listener.started(size, bracket)
        trial = measure(size)
        self._ran[size] = trial.fits
        self.found = replace(self.found, trials=(*self.found.trials, trial))
        if self._listener:
            self._listener.finished(trial, bracket)
        if not trial.fits:
            self._note(f"batch size {size} failed in a trial, and was not timed: {trial.message}")

    def _time(self, size: int, measure: Callable[[int], Measurement]) -> None:
        self._status(f"timing {size:,}")
        trial = measure(size)
        if not trial.fits:
            self._note(f"batch size {size} could not be timed: {trial.message}")
            return
        self._paces.append(pace_of(size, self._accumulate, trial.timed_seconds))
        self._timed(self._paces[-1])

    def _has_time(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def _note(self, text: str) -> None:
        self.found = replace(self.found, notes=(*self.found.notes, text))
