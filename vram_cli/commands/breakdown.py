"""`vram breakdown` as a function: the use of memory at the peak of a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vram_cli.commands.initial_guess import prediction_of
from vram_cli.commands.scripts import refuse_for_scripts, require_named_size, size_of, starting
from vram_cli.commands.user_errors import user_error
from vram_cli.commands.verdicts import require_verdict
from vram_cli.config import Config, load_config, with_overrides
from vram_cli.errors import ConfigError, DoesNotFitError, VramError
from vram_cli.probe import OpenProbe, Probe, open_probe
from vram_cli.progress import SILENT, Progress
from vram_cli.records import Breakdown, BreakdownResult, Category, Detail, Outcome
from vram_cli.units import format_bytes

_LARGER = 64
"""The multiple of a GPU's memory in which a batch that does not fit is predicted."""


def breakdown(
    config: Config | str | None = None,
    *,
    batch_size: int | None = None,
    detail: Detail = Detail.ROWS,
    snapshot: Path | None = None,
    download: bool = False,
    progress: Progress = SILENT,
    open_probe: OpenProbe = open_probe,
) -> BreakdownResult:
    """Account for the device's memory at the peak of one step.

    Args:
        config: what to train, and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        batch_size: replaces the config's `train.batch_size`, or a script's own.
        detail: whether the breakdown has modules and a timeline.
        snapshot: file to write for PyTorch's memory_viz; predictions only.
        download: whether torchvision may download missing data files.
        progress: receives what happens meanwhile.
        open_probe: opens the probe that runs the trial.

    Raises:
        DoesNotFitError: the batch does not fit; the message names the phase and the missing memory.
        ConfigError, WorkloadError, MachineError, ProbeError: as `find_batch`.
    """
    config = config if isinstance(config, Config) else load_config(config)
    require_named_size(config, batch_size)
    refuse_for_scripts(config, download=download, snapshot=snapshot)
    if config.train.compile:
        raise ConfigError(
            "train.compile: the memory of compiled code cannot be broken down",
            "--set train.compile=false shows it for the same model uncompiled; `vram find-batch` works with it",
        )
    if snapshot is not None and config.device.name != "auto":
        raise _no_snapshot()
    progress.status(starting(config))
    with open_probe(config, download=download, snapshot=snapshot) as probe:
        device = probe.info.device
        if snapshot is not None and not device.is_simulated:
            raise _no_snapshot()
        size = batch_size or size_of(config, probe.info)
        progress.status(f"running {config.search.steps} steps at batch size {size:,}")
        measurement = probe.measure(size, detail)
        if measurement.outcome in (Outcome.ERROR, Outcome.ENDED):
            raise user_error(measurement)
        require_verdict(measurement, device.name)
        result = BreakdownResult(
            run=probe.info,
            measurement=replace(measurement, breakdown=None),
            breakdown=measurement.breakdown,
            shortfall_bytes=measurement.shortfall_bytes(device.allocator_bytes),
            global_batch_size=probe.info.global_batch_size(measurement.batch_size),
        )
        if measurement.outcome is Outcome.OUT_OF_MEMORY:
            progress.status("predicting what the batch would take")
            result = replace(result, needed=_needed(config, size, detail, probe, open_probe))
        if not measurement.fits:
            raise _does_not_fit(result)
        return result


def _needed(config: Config, size: int, detail: Detail, probe: Probe, open_probe: OpenProbe) -> Breakdown | None:
    """Return what a batch that does not fit would take on the same GPU with more memory; None if not predictable."""
    device = probe.info.device
    prediction = config if device.is_simulated else prediction_of(config, device)
    if prediction is None:
        return None
    larger = with_overrides(prediction, [f"device.memory_limit={device.capacity_bytes * _LARGER}"])
    try:
        with open_probe(larger, reuse=probe) as other:
            breakdown = other.measure(size, detail).breakdown
    except VramError:  # the batch does not fit, which is answer enough
        return None
    return breakdown and _without_free_memory(breakdown)


def _without_free_memory(breakdown: Breakdown) -> Breakdown:
    rows = tuple(replace(row, bytes=0) if row.category is Category.FREE else row for row in breakdown.rows)
    return replace(breakdown, rows=rows, total_bytes=sum(row.bytes for row in rows))


def _does_not_fit(result: BreakdownResult) -> DoesNotFitError:
    measurement, device, missing = result.measurement, result.run.device, result.shortfall_bytes
    phase = f" in {measurement.phase.value}" if measurement.phase else ""
    phase += f" on rank {measurement.rank}" if measurement.rank is not None else ""
    return DoesNotFitError(
        f"batch {measurement.batch_size:,} does not run on {device.name}{phase}: {_shortened(measurement.message)}"
        + (f"; at least {format_bytes(missing)} short" if missing else ""),
        "run `vram find-batch` with the same options to find the largest batch that does",
        result,
    )


def _shortened(message: str) -> str:
    """Return the message without what follows the size of the failed allocation: PyTorch's account and advice."""
    return message.partition(". GPU ")[0]


def _no_snapshot() -> ConfigError:
    return ConfigError(
        "--snapshot is written from predictions only",
        "for a real run, call torch.cuda.memory._record_memory_history() in your own script",
    )
