"""The probe of several ranks on devices of this machine: a worker a rank, and one answer of all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from vram_cli.config import Config
from vram_cli.errors import ConfigError, CutShortError, ProbeError
from vram_cli.probe.environment import environment_of
from vram_cli.probe.first_request import first_reply, import_torch, inspect_workload
from vram_cli.probe.messages import OpenSession, RankPlace, Ready, RunTrial, TrialDone, WarmUpLeft
from vram_cli.probe.ranks.local_ranks import LocalRanks, Ranks
from vram_cli.probe.ranks.rank_replies import error_in, is_poisoned, merged, require_all
from vram_cli.probe.ranks.worker_group import RankReply, WorkerGroup
from vram_cli.probe.user_code import code_folder
from vram_cli.records import Detail, Measurement, Outcome, RunInfo

_WARM_UP = 2
"""Batch size of the small trial that loads what is loaded on first use."""


class RankProbe:
    """Runs each trial in all ranks at once, and replaces their workers after a trial that did not fit.

    A context manager, as `WorkerProbe`: entering it starts the workers, and leaving it ends them, from any thread.

    Args:
        config: the training, which several ranks share.
        download: whether torchvision may download missing data files.
        deadline: `time.monotonic()` value at which a running trial is stopped.
        ranks: the processes that can be ranks; those of this machine by default.
    """

    def __init__(
        self, config: Config, *, download: bool = False, deadline: float | None = None, ranks: Ranks | None = None
    ) -> None:
        self._config, self._download, self._deadline = config, download, deadline
        self._given = ranks
        self._is_open = False
        self._group: WorkerGroup | None = None
        self._ready: list[Ready] = []
        """Of each rank; those of the first group, since an answer has one heading."""
        parallel = config.parallel
        limits = parallel.memory_limits if parallel else None
        self._limits: Sequence[int | None] = limits or [config.device.memory_limit] * config.ranks
        self._warms_up, self._data_dtype = True, "float32"
        self._is_closed = False

    def __enter__(self) -> RankProbe:
        """Start the workers, so that a missing device or missing data is reported immediately."""
        self._environment = environment_of(self._config, calibrated=False)
        if self._given and self._given.count != self._config.ranks:
            raise ConfigError(
                f"parallel.ranks: {self._config.ranks} ranks, and torchrun has started {self._given.count}",
                "leave the key out: under torchrun it is the number of its processes",
            )
        if self._download:  # once, and not by all ranks into the same files
            inspect_workload(self._config, download=True)
        self._ranks: Ranks = self._given or LocalRanks(self._config.ranks)
        try:
            self._start()
        except BaseException:
            self._ranks.close()
            raise
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers for good."""
        self._is_closed = True
        if (group := self._group) is not None:
            group.kill()  # a trial in another thread notices and ends
        self.end_group()
        if self._is_open:
            self._ranks.close()

    @property
    def info(self) -> RunInfo:
        """The device with the least memory, the data, the config, the versions and the ranks."""
        source = self._config.source
        ready = min(self._ready, key=lambda each: each.device.allocator_bytes)
        return RunInfo(
            config_name=str(source.path or source.name),
            config=self._config.model_dump(mode="json"),
            overrides=source.overrides,
            device=ready.device,
            data=ready.data.for_model(self._data_dtype) if ready.data else None,
            versions=ready.versions,
            parallel=ready.parallel,
            remark=ready.remark,
        )

    def measure(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size in every rank.

        A device that counts its peaks runs a second trial for the details: there a step is tracked after the others,
        and if one rank has no room for that, the others would wait for it.

        Raises:
            WorkloadError: code that the config names ended a worker.
            ProbeError: the workers could not be started.
        """
        has_counters = self._ready[0].device.has_peak_counters
        measurement = self._run(batch_size, Detail.NONE if has_counters else detail)
        if not measurement.fits or not has_counters or detail is Detail.NONE:
            return measurement
        tracked = self._run(batch_size, detail)  # all of it: another rank may speak than before
        return measurement if tracked.breakdown is None else tracked

    def confirm(self, batch_size: int, detail: Detail = Detail.NONE) -> Measurement:
        """Run a batch size again from a clean state: on GPUs in new workers.

        Raises:
            VramError: as `measure`.
        """
        if self._ready[0].device.confirm_in_new_process:
            self.end_group()
        return self.measure(batch_size, detail)

    def _run(self, batch_size: int, detail: Detail) -> Measurement:
        try:
            group = self._group or self._start()
        except CutShortError as late:
            if not self._ready or not self._is_over():
                raise
            return Measurement(batch_size=batch_size, outcome=Outcome.TIMED_OUT, message=late.message)
        trial = RunTrial(batch_size=batch_size, detail=detail)
        started = time.monotonic()
        replies = self._ask(group, trial)
        if any(isinstance(reply.content, WarmUpLeft) for reply in replies):
            self._warms_up = False
            self.end_group()
            return self._run(batch_size, detail)
        if any(isinstance(reply.content, TrialDone) and reply.content.exceeded_limit for reply in replies):
            replies = self._ask(group, trial)
        rooms = [ready.device.allocator_bytes for ready in self._ready]
        measurement = merged(replies, rooms, batch_size, time.monotonic() - started)
        if not measurement.fits or is_poisoned(replies):
            self.end_group()
        return measurement

    def _ask(self, group: WorkerGroup, trial: RunTrial) -> list[RankReply]:
        """Run a trial in every rank.

        Raises:
            VramError: a worker refused, or the user's code ended it.
        """
        timeout = self._timeout()

        def run(worker: Any, rank: int, on_event: Any) -> Any:
            return worker.request(trial, on_event, timeout=timeout, max_resident_bytes=self._ready[rank].guard_bytes)

        def has_failed(reply: TrialDone | WarmUpLeft) -> bool:
            if isinstance(reply, WarmUpLeft):
                return True
            lacks_rows = trial.detail is not Detail.NONE and reply.measurement.breakdown is None
            return not reply.measurement.fits or lacks_rows

        try:
            replies = group.ask(run, has_failed)
        except BaseException:
            self.end_group()
            raise
        error = ProbeError("the probe has been closed") if self._is_closed else error_in(replies, group, self._config)
        if error is not None:
            self.end_group()
            raise error
        return replies

    def _start(self) -> WorkerGroup:
        self.end_group()
        self._group = group = WorkerGroup(self._ranks.start(self._environment))
        try:
            if self._is_closed:
                raise ProbeError("the probe has been closed")
            self._open(group)
        except BaseException:  # Ctrl-C as well: a probe that was not entered is not left either
            self.end_group()
            raise
        return self._group  # which is another one if the warm-up failed

    def _open(self, group: WorkerGroup) -> None:
        """Let the workers import torch, then join their group, then run a small trial."""
        config, deadline = self._config, self._deadline
        require_all(group.ask(lambda worker, *_: import_torch(worker, config, deadline=deadline)))
        places = self._ranks.places()
        replies = group.ask(
            lambda worker, rank, _: first_reply(
                worker, self._session(places[rank]), config, download=False, deadline=deadline
            )
        )
        require_all(replies)
        if not self._ready:
            self._ready = [reply.content for reply in sorted(replies, key=lambda reply: reply.rank)]
        if self._warms_up:
            self._warm_up(group)

    def _warm_up(self, group: WorkerGroup) -> None:
        """Run a small trial; if it fails in a rank, start anew without: its error occurs again in the first trial."""
        replies = self._ask(group, RunTrial(batch_size=_WARM_UP, is_warm_up=True))
        if all(isinstance(reply.content, TrialDone) and reply.content.measurement.fits for reply in replies):
            self._data_dtype = replies[0].content.data_dtype
            return
        self._warms_up = False
        self._start()

    def _session(self, place: RankPlace) -> OpenSession:
        config = self._config
        device = config.device.model_copy(update={"memory_limit": self._limits[place.rank]})
        parallel = config.parallel.model_copy(update={"memory_limits": None}) if config.parallel else None
        own = config.model_copy(update={"device": device, "parallel": parallel})
        return OpenSession(
            config=own.model_dump(mode="json"),
            download=False,
            folder=code_folder(config),
            warm=self._warms_up,
            place=place,
        )

    def _timeout(self) -> float:
        timeout = self._config.search.trial_timeout
        return timeout if self._deadline is None else min(timeout, max(0.0, self._deadline - time.monotonic()))

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def end_group(self) -> None:
        """End the workers; the next trial starts new ones."""
        if (group := self._group) is not None:
            self._group = None
            group.end()
