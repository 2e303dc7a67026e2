"""Trials and searches for one config after the other, with one probe at a time."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from vram_cli.commands.scripts import configured_size, starting
from vram_cli.commands.user_errors import raise_user_error, user_error
from vram_cli.config import Config, with_overrides
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Detail, Device, Measurement, Outcome, RunInfo, SearchResult
from vram_cli.search import find_largest

REAL_TOLERANCE = 0.02
"""The share below the largest size within which a real search stops: a trial takes seconds, and changes are many."""


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
        self._probes: dict[bool | None, Probe] = {}
        self._opened: Config | None = None
        self._status = ""
        self._cpu_bytes: int | None = None
        self._searches: dict[str, SearchResult] = {}

    def __enter__(self) -> TrialRunner:
        """Open the config without changes, so that a missing device is reported at once."""
        self._report(starting(self.config))
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
        """The run info of the config that was opened last."""
        return self._current().info

    @property
    def device(self) -> Device:
        """The real or simulated device of the config that was opened last."""
        return self.run_info.device

    @property
    def tolerance(self) -> float:
        """The share below the largest size within which a search may stop."""
        tolerance = self.config.search.tolerance
        return tolerance if self.device.is_simulated else max(tolerance, REAL_TOLERANCE)

    @property
    def num_samples(self) -> int | None:
        """Samples of the data set; None if it has no length."""
        return self.run_info.num_samples

    def open(self, config: Config, description: str) -> None:
        """Open a config, unless it is open, and report that `description` is tried.

        Raises:
            VramError: the config cannot run, or cannot be predicted, on this device.
        """
        self._report(f"trying {description}")
        if config != self._opened:
            self._open(config)

    def largest(self, config: Config, description: str, expected: int | None = None) -> SearchResult:
        """Return the largest batch of a config that does not thrash, regardless of the size of the data set.

        Args:
            config: the training.
            description: its difference from the training without changes, for `progress`.
            expected: a size to try first.

        Raises:
            WorkloadError: the user's code raises at the smallest batch.
            VramError: the config cannot run, or cannot be predicted, on this device.
        """
        key = config.model_dump_json()
        if key not in self._searches:
            self.open(config, description)
            # Near the limit, some sizes run only because the allocator releases its cache, and sizes between them fail:
            # that depends on fragmentation more than on a change. The search crosses them, and steps down afterwards.
            search = find_largest(
                self._current().measure,
                capacity_bytes=self.device.allocator_bytes,
                upper_bound=config.search.max_batch_size,
                tolerance=self.tolerance,
                multiple_of=1,
                only_multiples_of=config.search.only_multiples_of,
                configured_size=configured_size(config, self.run_info),
                initial_guess=lambda: expected,
            )
            raise_user_error(search)
            self._searches[key] = replace(search, max_batch_size=search.recommended_batch_size)
        return self._searches[key]

    def measure(self, config: Config, batch_size: int, description: str) -> Measurement:
        """Run a batch size with a breakdown, if memory is left to track a step.

        Raises:
            VramError: the config cannot run, or cannot be predicted, on this device.
        """
        self.open(config, description)
        return self._current().measure(batch_size, Detail.NONE if config.train.compile else Detail.ROWS)

    def fits(self, config: Config, batch_size: int, description: str) -> bool:
        """Return whether a batch size runs without thrashing. Runs nothing if a search has shown that already.

        Raises:
            WorkloadError: the user's code raises.
            VramError: the config cannot run, or cannot be predicted, on this device.
        """
        search = self._searches.get(config.model_dump_json())
        if search is not None:
            return batch_size <= (search.max_batch_size or 0) and batch_size in search.accepted_sizes
        self.open(config, f"{description} at {batch_size:,}")
        measurement = self._current().measure(batch_size)
        if measurement.outcome is Outcome.ERROR:
            raise user_error(measurement)
        return measurement.fits and not measurement.thrashing

    def _open(self, config: Config) -> None:
        earlier = self._probes.get(self._kind_of_process(config))
        context = self._open_probe(self._with_initial_memory(config), download=self._download, reuse=earlier)
        self._probe = self._stack.enter_context(context)
        self._probes[self._kind_of_process(config)] = self._probe
        self._opened = config

    def _kind_of_process(self, config: Config) -> bool | None:
        """Return which process can go on with a config, since the allocator's settings hold for a whole process.

        Predictions keep one for each setting: a new one takes seconds. A real trial has the device to itself.
        """
        is_predicted = self._probe is not None and self.device.is_simulated
        return config.device.expandable_segments if is_predicted else None

    def _with_initial_memory(self, config: Config) -> Config:
        """Return a CPU config with the memory that was free at the start as its limit, because free memory changes."""
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
