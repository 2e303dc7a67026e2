"""What `vram check` asks: does the training still fit, and has its peak memory grown since the baseline?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vram_cli.commands.check.comparable import comparable_baseline
from vram_cli.commands.check.judge import judge
from vram_cli.commands.user_errors import own_error
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import DoesNotFitError, MachineError
from vram_cli.probe import WorkerProbe
from vram_cli.records import (
    Breakdown,
    BreakdownResult,
    Category,
    CheckLimits,
    CheckResult,
    FindBatchResult,
    Measurement,
    Outcome,
    RunInfo,
)

_ROOM = "device.memory_limit=64TiB"  # more than any training takes

_UNKNOWN = (Outcome.KILLED, Outcome.TIMED_OUT, Outcome.HOST_MEMORY)
"""How a trial ends that says nothing about the device's memory."""


def check(
    config: Config | str | None,
    limits: CheckLimits,
    *,
    baseline: BreakdownResult | FindBatchResult | None = None,
    baseline_name: str = "",
    download: bool = False,
    status: Callable[[str], None] = lambda _: None,
) -> CheckResult:
    """Run the config's `train.batch_size`, or predict it, and judge its peak.

    A prediction takes no calibration: whatever is kept on this machine, it is the same on every runner.

    Args:
        config: what to train and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        limits: what is allowed.
        baseline: an earlier result to compare with.
        baseline_name: its file, for messages.
        download: whether torchvision may download the data set if it is not there.
        status: told in a few words what is going on.

    Raises:
        ConfigError: the config says something wrong, or the baseline is of another question.
        WorkloadError: the model, its data or its step raise.
        MachineError: the device is not there, none was named and there is no GPU, or the trial was cut short.
        DoesNotFitError: a kernel refuses the size, for a reason other than memory.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    size = settings.train.batch_size
    status("starting the process for trials")
    timeout = settings.search.trial_timeout
    with WorkerProbe(settings, download=download, trial_timeout=timeout, calibrated=False) as probe:
        asked = _asked(settings, probe)
        before = comparable_baseline(asked, size, baseline, baseline_name) if baseline is not None else None
        status(f"running {settings.search.steps} steps at batch size {size:,}")
        measured = probe.measure(size, explain=True, detail=True)
        _require_answer(measured, asked)
        result = BreakdownResult(
            run=asked,
            measurement=replace(measured, breakdown=None),
            shortfall_bytes=measured.shortfall_bytes(probe.capacity_bytes),
            breakdown=measured.breakdown if measured.fits else _with_room(probe, settings),
        )
    return judge(result, limits, before, baseline_name)


def _asked(config: Config, probe: WorkerProbe) -> RunInfo:
    """Return the run that is asked for.

    Raises:
        MachineError: a GPU was expected, and there is none.
    """
    if probe.device.kind == "simulated" and config.device.gpu is None:
        raise MachineError(
            "no GPU here, and a gate does not guess for which card it is to predict",
            "--gpu NAME predicts, such as --gpu t4; --device cpu runs real steps on this computer",
        )
    return probe.info


def _require_answer(measured: Measurement, asked: RunInfo) -> None:
    """Raise where the trial says nothing about memory: only running out of it is a finding."""
    if measured.outcome is Outcome.ERROR:
        raise own_error(measured)
    what = f"batch {measured.batch_size:,} on {asked.device.name}: {measured.message}"
    if measured.outcome in _UNKNOWN:
        raise MachineError(f"not measured: {what}", "nothing is known of its memory; run it again")
    if not measured.fits and measured.outcome is not Outcome.OUT_OF_MEMORY:
        raise DoesNotFitError(f"a kernel refuses {what}", "`vram find-batch` finds the largest size that runs")


def _with_room(probe: WorkerProbe, config: Config) -> Breakdown | None:
    """Return what a prediction says where there is room enough; of a real device nobody knows."""
    if probe.device.kind == "real":
        return None
    probe.reopen(with_overrides(config, [_ROOM]))
    made = probe.measure(config.train.batch_size, explain=True, detail=True).breakdown
    return made and _all_of_it(made)


def _all_of_it(made: Breakdown) -> Breakdown:
    """Return the breakdown without what is free: of a device that has just what it takes."""
    rows = tuple(replace(row, bytes=0) if row.category is Category.FREE else row for row in made.rows)
    return replace(made, rows=rows, total_bytes=sum(row.bytes for row in rows))
