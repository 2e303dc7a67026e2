"""Throughput of sizes up to the largest: each is first run for its memory, then timed."""

from __future__ import annotations

import time
from dataclasses import replace

from vram_cli.config import Config
from vram_cli.errors import ConfigError, VramError
from vram_cli.probe import Probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Bracket, Detail, SearchResult, Throughput, ThroughputPoint
from vram_cli.search import sizes_to_time, throughput_of, throughput_point

_NOISY = (
    "the steps of the fastest size vary by more than the knee may be slower, so the knee may be another size: time "
    "them again while nothing else uses this machine"
)


def refuse_to_time(config: Config) -> None:
    """Refuse to report the throughput of a script, or of several ranks.

    Raises:
        ConfigError: `search.objective` is throughput.
    """
    if config.search.objective != "throughput":
        return
    if config.script is not None:
        raise ConfigError(
            "search.objective: the throughput of a script is not measured, because its own loading and logging are "
            "part of each step",
            "leave it out, and compare the script's own speed at the sizes that fit",
        )
    if config.parallel is not None:
        raise ConfigError(
            "search.objective: throughput is measured for one rank, and parallel names several",
            "leave one of them out",
        )


def refuse_to_predict(config: Config, gpu: str | None) -> None:
    """Refuse to report the throughput of a GPU that is not in this machine; `gpu` is its name, None for no prediction.

    Raises:
        ConfigError: `search.objective` is throughput, and the GPU is predicted.
    """
    if config.search.objective == "throughput" and gpu is not None:
        raise ConfigError(
            f"search.objective: throughput is measured, and cannot be predicted for {gpu}",
            "run it without --gpu (device.gpu) on the machine that has the GPU, or time this computer with --device "
            "cpu; --objective largest predicts the largest batch",
        )


class ThroughputSweep:
    """Runs and times one size after the other. Its results so far can be read at any time.

    Args:
        config: what is trained.
        search: the search that has found the largest size.
        deadline: `time.monotonic()` value after which no further size is started, or None.
        progress: receives every trial and every timed size.

    Attributes:
        search: the search, with the trials and notes of the sweep added.
    """

    def __init__(
        self, config: Config, search: SearchResult, *, deadline: float | None = None, progress: Progress = SILENT
    ) -> None:
        self.search = search
        self._micro_batches = config.micro_batches_per_step
        self._deadline, self._progress = deadline, progress
        self._fits = {trial.batch_size: trial.fits for trial in search.trials}
        smallest = min(size for size, fits in self._fits.items() if fits)
        others = (search.recommended_batch_size,)
        self._sizes = sizes_to_time(smallest, search.max_batch_size or smallest, others, search.accepted_sizes)
        self._points: list[ThroughputPoint] = []

    @property
    def throughput(self) -> Throughput | None:
        """The results so far; None if no size has been timed."""
        return throughput_of(self._points, len(self._sizes))

    def run(self, probe: Probe) -> None:
        """Run all sizes.

        Raises:
            KeyboardInterrupt: Ctrl-C; the results so far can be read.
        """
        try:
            for size in self._sizes:
                if size not in self._fits and self._has_time():
                    self._measure_memory(size, probe)
            if self._has_time():
                self._progress.status("starting the worker process that times steps")
            for size in self._sizes:
                if self._fits.get(size) and self._has_time():
                    self._time(size, probe)
        except VramError as error:  # the largest size is proved, so it is reported all the same
            self._note(f"throughput was not measured to the end: {error.message}")
        if len(self._points) < len(self._sizes) and not self._has_time():
            self._note("the time was over before all sizes were timed")
        if self.throughput and self.throughput.is_noisy:
            self._note(_NOISY)

    def _measure_memory(self, size: int, probe: Probe) -> None:
        certificate = self.search.certificate
        bracket = Bracket(self.search.max_batch_size or 0, certificate.smallest_failed if certificate else None)
        self._progress.trial_started(size, bracket)
        trial = probe.measure(size)
        self._fits[size] = trial.fits
        self.search = replace(self.search, trials=(*self.search.trials, trial))
        self._progress.trial_finished(trial, bracket)
        if not trial.fits:
            self._note(f"batch size {size} failed in a trial and was not timed: {trial.message}")

    def _time(self, size: int, probe: Probe) -> None:
        self._progress.status(f"timing {size:,}")
        trial = probe.measure(size, Detail.TIMES)
        if not trial.fits:
            self._note(f"batch size {size} could not be timed: {trial.message}")
            return
        self._points.append(throughput_point(size, self._micro_batches, trial.timed_seconds))
        self._progress.timed(self._points[-1])

    def _has_time(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def _note(self, text: str) -> None:
        self.search = replace(self.search, notes=(*self.search.notes, text))
