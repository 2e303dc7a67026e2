"""Trials that time their steps: full steps without any tracking, each timed separately.

Measuring memory slows steps down: on the CPU through the storage tracker and `malloc.REPRODUCIBLE_MALLOC_ENV`, on a GPU
through the synchronization at the end of each phase. So these trials run in a process of their own without it.
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
    data_dtype,
    open_data,
    set_matmul_precision,
)

WARMUP_STEPS = 3
"""Untimed steps, which create the optimizer's state, and load, compile and select kernels."""

ENOUGH = (1.0, 20)
"""Seconds and steps after which timing ends: the quartiles of 20 steps do not depend on a single one."""

LONG_STEPS = (10.0, 3)
"""If steps are long: after this many seconds, this many steps are enough."""

_MAX_STEPS = 2000
"""Limit for the smallest models, whose quartiles more steps would not change."""


class TimingTrials:
    """Real steps at full speed."""

    def __init__(self, config: Config, *, download: bool) -> None:
        set_matmul_precision(config)
        torch.backends.cudnn.benchmark = config.device.cudnn_benchmark
        self._config, self._data = config, open_data(config, download=download)
        self._monitor = open_monitor(config.device.name, config.device.memory_limit)
        self.ready = Ready(device=self._monitor.describe(), data=self._data.info, versions={})

    def run(self, trial: RunTrial, on_phase: Callable[[Phase], None]) -> TrialDone:
        """Time one batch size. The memory limit is in force if the device can limit timed steps.

        Raises:
            VramError: the config names code that cannot be used.
        """
        monitor, started = self._monitor, time.perf_counter()
        failure: Failure | None = None
        seconds: tuple[float, ...] = ()
        if monitor.limits_timed_steps:
            monitor.start_trial()
        try:
            seconds = self._time(trial.batch_size, on_phase)
        except Exception as error:  # noqa: BLE001 - every exception is an outcome
            failure = describe(error, monitor.device.type)
        # Outside the except block, the traceback no longer keeps frames and their tensors alive (pytorch#18853).
        monitor.remove_limit()
        gc.collect()
        if failure is None or not failure.poisoned:
            monitor.empty_cache()
        measurement = Measurement(
            batch_size=trial.batch_size,
            outcome=failure.outcome if failure else Outcome.FITS,
            steps=len(seconds),
            seconds=time.perf_counter() - started,
            step_seconds=min(seconds, default=None),
            timed_seconds=seconds,
            message=failure.message if failure else "",
            traceback=failure.traceback if failure else "",
        )
        return TrialDone(measurement=measurement, poisoned=bool(failure and failure.poisoned))

    def _time(self, batch_size: int, on_phase: Callable[[Phase], None]) -> tuple[float, ...]:
        config, device = self._config, self._monitor.device
        on_phase(Phase.BUILD)
        work = build_workload(config, device)
        # Run all micro-batches, as in training; a memory trial runs at most two.
        work = replace(work, micro_batches=work.gradient_accumulation_steps)
        on_phase(Phase.BATCH)
        batch = self._data.make_batch(batch_size, device, data_dtype(work.model))
        batch = channels_last(batch) if config.train.channels_last else batch

        def step() -> None:
            work.step(work, batch, lambda _: None)
            self._monitor.synchronize()

        return time_steps(step)


def time_steps(step: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> tuple[float, ...]:
    """Return the seconds of consecutive steps, after a warm-up.

    Args:
        step: runs one complete step.
        clock: returns the time in seconds.
    """
    started = clock()
    for _ in range(WARMUP_STEPS):
        step()
        if clock() - started >= LONG_STEPS[0]:
            break
    seconds: list[float] = []
    while not _is_enough(sum(seconds), len(seconds)):
        start = clock()
        step()
        seconds.append(clock() - start)
    return tuple(seconds)


def _is_enough(seconds: float, steps: int) -> bool:
    limits = (ENOUGH, LONG_STEPS)
    return steps >= _MAX_STEPS or any(seconds >= limit and steps >= count for limit, count in limits)
