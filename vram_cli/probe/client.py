"""Trials in a child process, seen from the parent: started, watched, ended, replaced. Imports no torch."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from vram_cli.config import Config
from vram_cli.errors import ProbeError, WorkloadError
from vram_cli.probe.devices.host_memory import available_bytes
from vram_cli.probe.messages import REQUEST, OpenSession, PhaseStarted, Ready, Refused, RunTrial, TrialDone
from vram_cli.probe.worker_errors import HOST_FLOOR, START_TIMEOUT, ended_by_code, error_of, folder_of
from vram_cli.probe.worker_process import POLL_SECONDS, STEADY, WorkerProcess
from vram_cli.records import DataInfo, Device, Measurement, Outcome, Phase, RunInfo


class WorkerProbe:
    """Measures batch sizes in a child process, which it replaces after anything that may have poisoned it.

    A context manager: leaving it ends the child.

    Args:
        config: what to train and where.
        download: whether missing data files may be downloaded.
        trial_timeout: seconds after which a trial counts as hung.
        deadline: `time.monotonic()` value after which a running trial is stopped, or None.
        calibrated: whether a prediction takes what is kept of the card from `vram calibrate`.
    """

    def __init__(
        self,
        config: Config,
        *,
        download: bool = False,
        trial_timeout: float = 900.0,
        deadline: float | None = None,
        calibrated: bool = True,
    ) -> None:
        self._order = OpenSession(
            config=config.model_dump(mode="json"),
            download=download,
            folder=folder_of(config),
            calibrated=calibrated,
        )
        self._config = config
        self._own_code = config.user_code
        self._trial_timeout, self._deadline = trial_timeout, deadline
        self._child: WorkerProcess | None = None
        self._ready: Ready | None = None
        self._predicts = False
        """Whether the child was ready for a prediction: then it can be asked of another one."""
        self._stopped = False

    def __enter__(self) -> WorkerProbe:
        """Start the child, so that a device or data that is not there is told at once."""
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the child."""
        self._end()

    @property
    def device(self) -> Device:
        """What the trials stand on."""
        return self._known().device

    @property
    def info(self) -> RunInfo:
        """The heading for an answer: device, data, config and versions."""
        ready, source = self._known(), self._config.source
        return RunInfo(
            config_name=str(source.path or source.name),
            config=self._config.model_dump(mode="json"),
            overrides=source.overrides,
            device=ready.device,
            data=ready.data,
            versions=ready.versions,
            remark=ready.remark,
        )

    @property
    def data(self) -> DataInfo:
        """What the batches are made of."""
        return self._known().data

    @property
    def versions(self) -> dict[str, str]:
        """Versions of everything that the result depends on."""
        return self._known().versions

    @property
    def remark(self) -> str:
        """What the reader of an answer should know first, such as that no GPU is here."""
        return self._known().remark

    @property
    def capacity_bytes(self) -> int:
        """What PyTorch's allocator may reserve: the device's memory less what lies outside it."""
        ready = self._known()
        return max(0, ready.device.capacity_bytes - ready.outside_bytes)

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.process.pid if self._child else None

    def measure(
        self, batch_size: int, *, explain: bool = False, detail: bool = False, snapshot: Path | None = None
    ) -> Measurement:
        """Run a batch size: full steps, counted and limited. With `explain` the measurement carries a breakdown.

        With `detail` that has modules and a timeline. `snapshot` is where a prediction writes its allocations for
        PyTorch's memory_viz.

        Raises:
            ProbeError: the child could not be started again after the last one was replaced.
        """
        child = (self._child if self._ready else None) or self._start()
        began = time.monotonic()
        task = RunTrial(
            batch_size=batch_size,
            explain=explain,
            detail=detail,
            snapshot=str(snapshot.resolve()) if snapshot else None,
        )
        child.send(REQUEST.dump_json(task))
        end = began + self._trial_timeout
        measurement, keep = self._wait_for_trial(child, batch_size, began, min(end, self._deadline or end))
        if not keep:
            self._end()
        return measurement

    def measure_afresh(self, batch_size: int, *, detail: bool = False) -> Measurement:
        """Run a batch size once more, with a breakdown: the confirmation that it did not fit by luck.

        On a GPU in a new child, since what ran before shapes the allocator's cache. On the CPU freed memory goes back
        to the system, so that trials in one process start alike; between processes the heap differs by some 100 KiB,
        which is more than a sample of a small model. A prediction is simulated anew.
        """
        if self.device.kind == "real" and self.device.type != "cpu":
            self._end()
        return self.measure(batch_size, explain=True, detail=detail)

    def reopen(self, config: Config) -> None:
        """Ask of another config from here on.

        Predictions go on in the child that has imported everything; real trials get a new one, as every answer does.

        Raises:
            ConfigError, MachineError: as where the probe is entered.
        """
        goes_on = self._goes_on_with(config)
        self._config = config
        self._order = replace(self._order, config=config.model_dump(mode="json"), folder=folder_of(config))
        self._own_code = config.user_code
        self._ready = None
        if goes_on and self._child is not None and not self._child.gone:
            self._ordered(self._child)
        else:
            self._start()

    def turn_to_timing(self) -> None:
        """Run trials for the clock alone from here on: they measure `timed_seconds`, and no memory.

        In a new child: what makes memory the same from trial to trial slows steps down. The old one is ended first.

        Raises:
            ProbeError: the new one could not be started.
        """
        self._order = replace(self._order, timed=True)
        self._start()

    def stop(self) -> None:
        """End for good, called from any thread: a trial that runs is killed, and none can be started any more."""
        self._stopped = True
        if (child := self._child) is not None:
            child.process.kill()

    def _goes_on_with(self, config: Config) -> bool:
        """Whether a child can be asked of a config too: a prediction after another, with the same GPUs hidden.

        And with code from the same folder: modules that were imported from another would stand for those of their name.
        """
        predicted = config.device.gpu is not None or self._order.config["device"]["gpu"] is None
        same_code = folder_of(config) == self._order.folder
        return self._predicts and predicted and same_code and config.device.name == "auto"

    def _wait_for_trial(
        self, child: WorkerProcess, batch_size: int, began: float, end: float
    ) -> tuple[Measurement, bool]:
        phase: Phase | None = None

        def ended(outcome: Outcome, message: str) -> tuple[Measurement, bool]:
            seconds = time.monotonic() - began
            return (
                Measurement(batch_size=batch_size, outcome=outcome, phase=phase, seconds=seconds, message=message),
                False,
            )

        looked = began
        while True:
            reply = child.receive()
            if isinstance(reply, TrialDone):
                return reply.measurement, not reply.poisoned
            if isinstance(reply, Refused):
                self._end()
                raise error_of(reply)
            if isinstance(reply, PhaseStarted):
                phase = reply.phase
                # Short steps tell of phases without a pause: limits are looked at all the same, but not each time.
                if time.monotonic() - looked < POLL_SECONDS:
                    continue
            looked = time.monotonic()
            if child.gone and self._is_codes_doing(child):
                raise self._stopped_by_code(child)
            if child.gone:
                return ended(Outcome.KILLED, f"the trial's process {child.how_it_ended()}")
            if looked > end:
                return ended(Outcome.TIMED_OUT, f"stopped after {looked - began:.0f} s")
            if self._over_guard(child):
                return ended(Outcome.OUT_OF_MEMORY, "resident memory grew above the budget")
            if available_bytes() < HOST_FLOOR:
                return ended(Outcome.HOST_MEMORY, "the computer was about to run out of RAM")

    def _over_guard(self, child: WorkerProcess) -> bool:
        guard = self._known().guard_bytes
        return guard is not None and child.resident_bytes() > guard

    def _start(self) -> WorkerProcess:
        self._end()
        self._predicts = False
        self._child = child = WorkerProcess(({} if self._order.timed else STEADY) | self._environment())
        if self._stopped:  # asked after the assignment: `stop` either sees the child or is seen here
            self._end()
            raise ProbeError("the probe has been stopped")
        return self._ordered(child)

    def _ordered(self, child: WorkerProcess) -> WorkerProcess:
        child.send(REQUEST.dump_json(self._next_order()))
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            reply = child.receive()
            if isinstance(reply, Refused):
                if not self._predicts:
                    self._end()
                raise error_of(reply)
            if isinstance(reply, Ready):
                self._predicts = reply.device.kind == "simulated"
                # Figures of the first child stay: a later one may see the card differently, and an answer needs one.
                self._ready = self._ready or reply
                return child
            if child.gone:
                break
        if child.gone and self._own_code and not child.was_killed:
            raise self._stopped_by_code(child)
        how = child.how_it_ended() if child.gone else f"did not answer within {START_TIMEOUT:.0f} s"
        words = child.last_words
        self._end()
        raise ProbeError(f"the process for trials {how} before its first trial", words)

    def _is_codes_doing(self, child: WorkerProcess) -> bool:
        """Whether a child that is gone was ended by the user's code: by itself, or where hardly any memory is used."""
        predicts = self._known().device.kind == "simulated"
        return bool(self._own_code) and (child.left or (predicts and not child.was_killed))

    def _stopped_by_code(self, child: WorkerProcess) -> WorkloadError:
        error = ended_by_code(child, self._own_code)
        self._end()
        return error

    def _environment(self) -> dict[str, str]:
        """Return what PyTorch reads as it starts: the allocator options of the config, and which GPUs it may see."""
        device = self._order.config["device"]
        if device["gpu"] is not None:
            # Fakes of a card that is not there: a GPU that is there would answer for it, and lend it its context.
            return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
        if not device["expandable_segments"]:
            return {}
        # The older of its two names: PyTorch 2.9 reads this option under that name only (pytorch#183387).
        name = "PYTORCH_CUDA_ALLOC_CONF"
        return {name: ",".join(filter(None, (os.environ.get(name), "expandable_segments:True")))}

    def _next_order(self) -> OpenSession:
        """Return what to tell a new child; on the CPU it gets the memory that the first one found, which changes."""
        if self._ready is None or self._ready.device.type != "cpu":
            return self._order
        config = self._order.config
        device = {**config["device"], "memory_limit": self._ready.device.capacity_bytes}
        return replace(self._order, config={**config, "device": device})

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _known(self) -> Ready:
        if self._ready is None:
            raise ProbeError("the probe was asked before it was entered as a context")
        return self._ready
