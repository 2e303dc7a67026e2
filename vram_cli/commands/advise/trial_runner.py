"""Runs trials and searches for one config after the other, through one probe at a time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from vram_cli.commands.user_errors import raise_user_error
from vram_cli.config import Config, with_overrides
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Detail, Device, Measurement, Outcome, RunInfo, SearchResult
from vram_cli.search import find_largest

REAL_TOLERANCE = 0.02
"""How far below the largest size a real search may stop: each trial takes seconds, and there are many changes."""


class TrialRunner:
    """Measures and searches with one config after the other; a context manager.

    Args:
        config: the training without changes.
        progress: receives the change that is tried.
        download: whether torchvision may download missing data files.
        open_probe: opens the probes that run the trials.
    """

    def __init__(
        self,
        config: Config,
        *,
        progress: Progress = SILENT,
        download: bool = False,
        open_probe: OpenProbe = open_probe,
    ) -> None:
        self.config, self._progress, self._download, self._open_probe = config, progress, download, open_probe
        self._stack = ExitStack()
        self._probe: Probe | None = None
        self._opened: Config | None = None
        self._status = ""
        self._cpu_bytes: int | None = None
        self._searches: dict[str, SearchResult] = {}

    def __enter__(self) -> TrialRunner:
        """Open the config without changes, so that a missing device is reported at once."""
        self._report("starting the worker process")
        self._open(self.config)
        if self.device.type == "cpu":
            self._cpu_bytes = self.device.capacity_bytes
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def run_info(self) -> RunInfo:
        """The heading of an answer about the config that was opened last."""
        return self._current().info

    @property
    def device(self) -> Device:
        """The device that the config opened last is measured on, or predicted for."""
        return self.run_info.device

    @property
    def tolerance(self) -> float:
        """The share below the largest size within which a search may stop."""
        tolerance = self.config.search.tolerance
        return tolerance if self.device.is_simulated else max(tolerance, REAL_TOLERANCE)

    @property
    def num_samples(self) -> int | None:
        """Samples of the data set; None if it has no end."""
        data = self.run_info.data
        return data.num_samples if data else None

    def open(self, config: Config, what: str) -> None:
        """Turn to a config, and report `what` is tried.

        Raises:
            VramError: it cannot run, or cannot be predicted, here.
        """
        self._report(f"trying {what}")
        if config != self._opened:
            self._open(config)

    def largest(self, config: Config, what: str, expected: int | None = None) -> SearchResult:
        """Return the largest batch of a config that does not thrash, whatever the length of the data set.

        Args:
            config: what is trained.
            what: how it differs from the training without changes.
            expected: a size to try first.

        Raises:
            WorkloadError: the user's code raises at the smallest batch.
            VramError: it cannot run, or cannot be predicted, here.
        """
        key = config.model_dump_json()
        if key not in self._searches:
            self.open(config, what)
            search = find_largest(
                self._measure,
                capacity_bytes=self.device.allocator_bytes,
                upper_bound=config.search.max_batch_size,
                tolerance=self.tolerance,
                multiple_of=None,
                initial_guess=lambda: expected,
            )
            raise_user_error(search)
            self._searches[key] = search
        return self._searches[key]

    def at(self, config: Config, batch_size: int, what: str) -> Measurement:
        """Run a batch size with a breakdown, if there is room to make one.

        Raises:
            VramError: the config cannot run, or cannot be predicted, here.
        """
        self.open(config, what)
        return self._current().measure(batch_size, Detail.NONE if config.train.compile else Detail.ROWS)

    def fits(self, config: Config, batch_size: int, what: str) -> bool:
        """Return whether a batch size runs without thrashing; if a search has shown that already, nothing runs.

        Raises:
            VramError: the config cannot run, or cannot be predicted, here.
        """
        search = self._searches.get(config.model_dump_json())
        if search is not None:
            return batch_size <= (search.max_batch_size or 0)
        self.open(config, f"{what} at {batch_size:,}")
        return self._measure(batch_size).fits

    def _measure(self, batch_size: int) -> Measurement:
        """Measure; a size that thrashes counts as too large.

        At the edge some sizes run only because the allocator gives its cache back, and sizes between them fail: islands
        that say more about fragmentation than about a change.
        """
        measurement = self._current().measure(batch_size)
        return replace(measurement, outcome=Outcome.OUT_OF_MEMORY) if measurement.thrashing else measurement

    def _open(self, config: Config) -> None:
        context = self._open_probe(self._in_the_same_memory(config), download=self._download, reuse=self._probe)
        self._probe = self._stack.enter_context(context)
        self._opened = config

    def _in_the_same_memory(self, config: Config) -> Config:
        """Return a config for the CPU with the memory that was free at the start: free memory keeps changing."""
        device = config.device
        if self._cpu_bytes is None or device.name != self.config.device.name or device.memory_limit is not None:
            return config
        return with_overrides(config, [f"device.memory_limit={self._cpu_bytes}"])

    def _report(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self._progress.status(text)

    def _current(self) -> Probe:
        if self._probe is None:
            raise RuntimeError("the runner was used before it was entered as a context")
        return self._probe
