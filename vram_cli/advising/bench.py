"""Where changes are tried: one probe that is asked of one config after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from vram_cli.config import Config
from vram_cli.errors import VramError, WorkloadError
from vram_cli.probe import ProcessProbe
from vram_cli.results import Device, Measurement, Outcome, SearchResult
from vram_cli.search import SearchListener, find_largest

REAL_TOLERANCE = 0.02
"""How far below the largest size a real search may stop: each trial takes seconds, and there are many changes."""


class Bench:
    """Measures and searches with changed configs; a context manager.

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
        self._probe = ProcessProbe(config, download=download, trial_timeout=config.search.trial_timeout)
        self._asked = config
        self._searched: dict[str, SearchResult] = {}

    def __enter__(self) -> Bench:
        self._status("starting the process for trials")
        self._probe.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._probe.__exit__(kind, error, traceback)

    @property
    def device(self) -> Device:
        """What is measured on, or predicted for."""
        return self._probe.device

    @property
    def versions(self) -> dict[str, str]:
        """Versions of everything that the figures depend on."""
        return self._probe.versions

    @property
    def remark(self) -> str:
        """What a reader should know before the figures."""
        return self._probe.remark

    @property
    def length(self) -> int | None:
        """Samples of the data set; None where it has no end."""
        return self._probe.data.num_samples

    def largest(self, config: Config, what: str) -> SearchResult:
        """Return the largest batch of a config that does not thrash, whatever the length of the data.

        Raises:
            WorkloadError: its own code raises at the smallest batch.
            VramError: it cannot run, or cannot be predicted, here.
        """
        key = config.model_dump_json()
        if key not in self._searched:
            self._open(config, what)
            real = self.device.kind == "real"
            found = find_largest(
                self._measure,
                capacity_bytes=self._probe.capacity_bytes,
                cap=config.search.max,
                tolerance=max(config.search.tolerance, REAL_TOLERANCE) if real else config.search.tolerance,
                multiple_of=1,
                listener=self._listener,
            )
            error = next((trial for trial in reversed(found.trials) if trial.outcome is Outcome.ERROR), None)
            if found.max_batch_size is None and error is not None:
                raise WorkloadError(error.message, "mend that first", error.traceback)
            self._searched[key] = found
        return self._searched[key]

    def at(self, config: Config, batch_size: int, what: str) -> Measurement:
        """Run a batch size with a breakdown.

        Raises:
            VramError: the config cannot run, or cannot be predicted, here.
        """
        self._open(config, what)
        return self._probe.measure(batch_size, explain=not config.train.compile)

    def _measure(self, batch_size: int) -> Measurement:
        """Measure; a size that thrashes counts as too large.

        At the edge, some sizes run only because the allocator gives its cache back, and others between them do not:
        islands that say more of fragmentation than of a change.
        """
        measured = self._probe.measure(batch_size)
        return replace(measured, outcome=Outcome.OUT_OF_MEMORY) if measured.thrashing else measured

    def _open(self, config: Config, what: str) -> None:
        self._status(f"trying {what}")
        if config is not self._asked:
            self._asked = config
            try:
                self._probe.reopen(config)
            except VramError:
                self._asked = None  # type: ignore[assignment]  # whatever comes next has to open its own
                raise
