"""Trials for the clock alone: full steps that nothing watches, each timed by itself.

What counts memory slows a step down: on a CPU the ledger and the settings of `child.STEADY`, on a GPU the wait at
the end of each phase. So these trials run in a child of their own, without any of it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from vram_cli.config import Config
from vram_cli.probe.devices.open_monitor import open_monitor
from vram_cli.probe.messages import Ready, RunTrial, TrialDone
from vram_cli.probe.worker.oom_errors import Failure, describe
from vram_cli.records import Measurement, Outcome, Phase
from vram_cli.workload import (
    build_workload,
    channels_last,
    open_data,
    parameter_dtype,
    set_matmul_precision,
)

WARM_UP = 3
"""Steps that are not timed: the first makes the optimizer's state, and kernels are loaded, compiled and chosen."""

ENOUGH = (1.0, 20)
"""Seconds and steps after which a size has been timed: the quartiles of 20 steps do not hang on one of them."""

LIMIT = (10.0, 3)
"""Where steps are long: after so many seconds this many will do."""

_MOST = 2000
"""Of steps that are timed: more would tell nothing new of the tiniest models."""


class TimedTrials:
    """Real steps at full speed."""

    def __init__(self, config: Config, *, download: bool) -> None:
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._data = config, open_data(config, download=download)
        self._meter = open_monitor(config.device.name, config.device.memory_limit)
        self.ready = Ready(
            device=self._meter.describe(),
            outside_bytes=self._meter.capacity()[1],
            guard_bytes=None,
            data=self._data.info,
            versions={},
        )

    def run(self, task: RunTrial, enter: Callable[[Phase], None]) -> TrialDone:
        """Time one batch size. A GPU's budget is in force; a CPU's is not, for its limit needs what slows steps down.

        Raises:
            VramError: the config names code that cannot be used.
        """
        meter, began = self._meter, time.perf_counter()
        failure: Failure | None = None
        seconds: tuple[float, ...] = ()
        if meter.device.type != "cpu":
            meter.begin()
        try:
            seconds = self._time(task.batch_size, enter)
        except Exception as error:  # noqa: BLE001 - every exception is an outcome; describe() says which
            failure = describe(error, meter.device.type)
        # Out here the traceback is gone, and with it the frames that held the tensors (pytorch#18853).
        meter.lift_limit()
        gc.collect()
        if failure is None or not failure.poisoned:
            meter.end()
        measurement = Measurement(
            batch_size=task.batch_size,
            outcome=failure.outcome if failure else Outcome.FITS,
            steps=len(seconds),
            seconds=time.perf_counter() - began,
            step_seconds=min(seconds, default=None),
            timed_seconds=seconds,
            message=failure.message if failure else "",
            traceback=failure.traceback if failure else "",
        )
        return TrialDone(measurement=measurement, poisoned=bool(failure and failure.poisoned))

    def _time(self, batch_size: int, enter: Callable[[Phase], None]) -> tuple[float, ...]:
        config, device = self._config, self._meter.device
        enter(Phase.BUILD)
        work = build_workload(config, device)
        # As many micro-batches as in training: a trial for memory runs two of them at most.
        work = replace(work, micro_batches=work.gradient_accumulation_steps)
        enter(Phase.BATCH)
        batch = self._data.make_batch(batch_size, device, parameter_dtype(config))
        batch = channels_last(batch) if config.train.channels_last else batch

        def step() -> None:
            work.step(work, batch, lambda _: None)
            self._meter.synchronize()

        return timed(step)


def timed(step: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> tuple[float, ...]:
    """Return the seconds of steps that follow each other, once some have warmed up.

    Args:
        step: runs one to its end.
        clock: seconds, rising.
    """
    began = clock()
    for _ in range(WARM_UP):
        step()
        if clock() - began >= LIMIT[0]:
            break
    seconds: list[float] = []
    while not _will_do(sum(seconds), len(seconds)):
        start = clock()
        step()
        seconds.append(clock() - start)
    return tuple(seconds)


def _will_do(seconds: float, steps: int) -> bool:
    return steps >= _MOST or any(seconds >= least and steps >= many for least, many in (ENOUGH, LIMIT))
