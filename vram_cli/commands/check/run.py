"""`vram check` as a function: does the training still fit, and has its peak memory grown since the baseline?"""

from __future__ import annotations

from dataclasses import replace

from vram_cli.commands.check.comparable import comparable_baseline
from vram_cli.commands.check.judge import judge
from vram_cli.commands.scripts import refuse_for_scripts, require_named_size, size_of, starting
from vram_cli.commands.user_errors import user_error
from vram_cli.commands.verdicts import require_verdict
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import DoesNotFitError, MachineError
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import (
    Breakdown,
    BreakdownResult,
    Category,
    CheckLimits,
    CheckResult,
    Detail,
    FindBatchResult,
    Measurement,
    Outcome,
    RunInfo,
)

_UNLIMITED = "device.memory_limit=64TiB"  # more than any training takes


def check(
    config: Config | str | None,
    limits: CheckLimits,
    *,
    baseline: BreakdownResult | FindBatchResult | None = None,
    baseline_name: str = "",
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> CheckResult:
    """Run the config's `train.batch_size`, or a script's own, or predict it, and judge its peak.

    Predictions use no calibration, so that they are the same on every runner.

    Args:
        config: what to train, and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        limits: the allowed peak and growth.
        baseline: an earlier result to compare with.
        baseline_name: the baseline's file, for messages.
        download: whether torchvision may download missing data files.
        progress: receives what happens meanwhile.
        open_probe: opens the probe that runs the trial.

    Raises:
        ConfigError: the config is wrong, or the baseline answers another question.
        WorkloadError: the model, its data or its step raise.
        MachineError: the device does not exist, no GPU was named and there is none, or the trial was cut short.
        DoesNotFitError: a kernel refuses the size, for a reason other than memory.
    """
    config = config if isinstance(config, Config) else load_config(config)
    require_named_size(config)
    refuse_for_scripts(config, download=download)
    progress.status(starting(config))
    with open_probe(config, download=download, calibrated=False) as probe:
        _require_named_gpu(config, probe.info)
        size = size_of(config, probe.info)
        earlier = comparable_baseline(probe.info, size, baseline, baseline_name) if baseline is not None else None
        progress.status(f"running {config.search.steps} steps at batch size {size:,}")
        measurement = probe.measure(size, Detail.MODULES)
        _require_memory_verdict(measurement, probe.info)
        breakdown = measurement.breakdown
        if not measurement.fits:
            breakdown = _with_enough_memory(config, size, probe, open_probe)
        result = BreakdownResult(
            run=probe.info,
            measurement=replace(measurement, breakdown=None),
            shortfall_bytes=measurement.shortfall_bytes(probe.info.device.allocator_bytes),
            global_batch_size=probe.info.global_batch_size(size),
            breakdown=breakdown,
        )
    return judge(result, limits, earlier, baseline_name)


def _require_named_gpu(config: Config, run: RunInfo) -> None:
    """Raise if this machine has no GPU and none was named."""
    if run.device.is_simulated and config.device.gpu is None:
        raise MachineError(
            "this machine has no GPU, and check does not guess which GPU to predict for",
            "name one with --gpu NAME, such as --gpu t4; --device cpu runs real steps on this computer",
        )


def _require_memory_verdict(measurement: Measurement, run: RunInfo) -> None:
    """Raise if the trial says nothing about memory: only running out of it is a finding."""
    if measurement.outcome in (Outcome.ERROR, Outcome.ENDED):
        raise user_error(measurement)
    require_verdict(measurement, run.device.name)
    if not measurement.fits and measurement.outcome is not Outcome.OUT_OF_MEMORY:
        trial = f"batch {measurement.batch_size:,} on {run.device.name}: {measurement.message}"
        raise DoesNotFitError(f"a kernel refuses {trial}", "`vram find-batch` finds the largest size that runs")


def _with_enough_memory(config: Config, size: int, probe: Probe, open_probe: OpenProbe) -> Breakdown | None:
    """Return the breakdown that a prediction gives on a GPU with enough memory; None on a real device."""
    if not probe.info.device.is_simulated:
        return None
    with open_probe(with_overrides(config, [_UNLIMITED]), calibrated=False, reuse=probe) as unlimited:
        breakdown = unlimited.measure(size, Detail.MODULES).breakdown
    return breakdown and _without_free(breakdown)


def _without_free(breakdown: Breakdown) -> Breakdown:
    """Return the breakdown of a device that has exactly the memory that is used."""
    rows = tuple(replace(row, bytes=0) if row.category is Category.FREE else row for row in breakdown.rows)
    return replace(breakdown, rows=rows, total_bytes=sum(row.bytes for row in rows))
