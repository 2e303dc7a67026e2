"""Where changes are tried: one probe that is asked of one config after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from vram_cli.commands.user_errors import raise_own_error
from vram_cli.config import Config, with_overrides
from vram_cli.probe import WorkerProbe
from vram_cli.records import Device, Measurement, Outcome, RunInfo, SearchResult
from vram_cli.search import SearchListener, find_largest

REAL_TOLERANCE = 0.02
"""How far below the largest size a real search may stop: each trial takes seconds, and there are many changes."""


class TrialRunner:
    """Measures and searches with one config after the other; a context manager.

    Args:
        config: the training as it is.
        status: told what is tried.
        listener: told of each trial of a search.
        download: whether missing data files may be downloaded.
    """

    def __init__(
        self,
        config: Config,
        *,
        status: Callable[[str], None] = lambda _: None,
        listener: SearchListener | None = None,
        download: bool = False,
    ) -> None:
        self.config, self._status, self._listener = config, status, listener
        self._probe = WorkerProbe(config, download=download, trial_timeout=config.search.trial_timeout)
        self._opened: Config | None = config
        self._said = ""
        self._cpu_bytes: int | None = None
        self._searched: dict[str, SearchResult] = {}

    def __enter__(self) -> TrialRunner:
        self._say("starting the process for trials")
        self._probe.__enter__()
        if self.device.type == "cpu":
            self._cpu_bytes = self.device.capacity_bytes
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._probe.__exit__(kind, error, traceback)

    @property
    def device(self) -> Device:
        """What the config that was opened last is measured on, or predicted for."""
        return self._probe.device

    @property
    def tolerance(self) -> float:
        """The share below the largest size within which a search may stop."""
        asked = self.config.search.tolerance
        return max(asked, REAL_TOLERANCE) if self.device.kind == "real" else asked

    @property
    def run_info(self) -> RunInfo:
        """The heading for an answer about the config that was opened last."""
        return self._probe.info

    @property
    def length(self) -> int | None:
        """Samples of the data set; None where it has no end."""
        return self._probe.data.num_samples

    def open(self, config: Config, what: str) -> None:
        """Turn to a config; `what` is said of it.

        Raises:
            VramError: it cannot run, or cannot be predicted, here.
        """
        self._say(f"trying {what}")
        if config != self._opened:
            self._opened = None  # where this one is refused, whatever comes next opens its own
            self._probe.reopen(self._in_the_same_memory(config))
            self._opened = config

    def largest(self, config: Config, what: str, expected: int | None = None) -> SearchResult:
        """Return the largest batch of a config that does not thrash, whatever the length of the data.

        Args:
            config: what is trained.
            what: how it differs from the training as it is.
            expected: a size to look at first.

        Raises:
            WorkloadError: its own code raises at the smallest batch.
            VramError: it cannot run, or cannot be predicted, here.
        """
        key = config.model_dump_json()
        if key not in self._searched:
            self.open(config, what)
            found = find_largest(
                self._measure,
                capacity_bytes=self._probe.capacity_bytes,
                upper_bound=config.search.max_batch_size,
                tolerance=self.tolerance,
                multiple_of=None,
                initial_guess=lambda: expected,
                listener=self._listener,
            )
            raise_own_error(found)
            self._searched[key] = found
        return self._searched[key]

    def at(self, config: Config, batch_size: int, what: str) -> Measurement:
        """Run a batch size with a breakdown, where there is room to make one.

        Raises:
            VramError: the config cannot run, or cannot be predicted, here.
        """
        self.open(config, what)
        return self._probe.measure(batch_size, explain=not config.train.compile)

    def fits(self, config: Config, batch_size: int, what: str) -> bool:
        """Whether a batch size runs without thrashing; where a search has told already, it is not run again.

        Raises:
            VramError: the config cannot run, or cannot be predicted, here.
        """
        known = self._searched.get(config.model_dump_json())
        if known is not None:
            return batch_size <= (known.max_batch_size or 0)
        self.open(config, f"{what} at {batch_size:,}")
        return self._measure(batch_size).fits

    def _measure(self, batch_size: int) -> Measurement:
        """Measure; a size that thrashes counts as too large.

        At the edge, some sizes run only because the allocator gives its cache back, and others between them do not:
        islands that say more of fragmentation than of a change.
        """
        measured = self._probe.measure(batch_size)
        return replace(measured, outcome=Outcome.OUT_OF_MEMORY) if measured.thrashing else measured

    def _in_the_same_memory(self, config: Config) -> Config:
        """Give a config on the CPU the memory that the first one found: what is available changes all the time."""
        if (
            self._cpu_bytes is None
            or config.device.name != self.config.device.name
            or config.device.memory_limit is not None
        ):
            return config
        return with_overrides(config, [f"device.memory_limit={self._cpu_bytes}"])

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._status(text)
