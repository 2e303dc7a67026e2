"""`vram breakdown` as a function: where the memory goes at the peak of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vram_cli.commands.user_errors import own_error
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, DoesNotFitError
from vram_cli.probe import WorkerProbe
from vram_cli.records import BreakdownResult, Outcome
from vram_cli.units import format_bytes


def breakdown(
    config: Config | str | None = None,
    *,
    batch_size: int | None = None,
    detail: bool = False,
    snapshot: Path | None = None,
    download: bool = False,
    status: Callable[[str], None] = lambda _: None,
) -> BreakdownResult:
    """Account for the device's memory at the peak of a real training step.

    Args:
        config: what to train and where; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        batch_size: in place of the config's `train.batch_size`.
        detail: whether the breakdown should carry its modules and a timeline.
        snapshot: a file to write for PyTorch's memory_viz page; predictions only.
        download: whether torchvision may download the data set if it is not there.
        status: told in a few words what is going on.

    Raises:
        DoesNotFitError: the batch does not fit; the message says where it failed and what was missing.
        ConfigError, WorkloadError, MachineError: as `find_batch`.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    size = batch_size or settings.train.batch_size
    if settings.train.compile:
        raise ConfigError(
            "train.compile: nobody sees where the memory of compiled code goes",
            "--set train.compile=false shows it for the same model uncompiled; `vram find-batch` works with it",
        )
    if snapshot is not None and settings.device.name != "auto":
        raise _no_snapshot()
    status("starting the process for trials")
    with WorkerProbe(settings, download=download, trial_timeout=settings.search.trial_timeout) as probe:
        status(f"running {settings.search.steps} steps at batch size {size:,}")
        if snapshot is not None and probe.device.kind == "real":
            raise _no_snapshot()
        measured = probe.measure(size, explain=True, detail=detail, snapshot=snapshot)
        if measured.outcome is Outcome.ERROR:
            raise own_error(measured)
        result = BreakdownResult(
            run=probe.info,
            measurement=replace(measured, breakdown=None),
            breakdown=measured.breakdown,
            shortfall_bytes=measured.shortfall_bytes(probe.capacity_bytes),
        )
        if not measured.fits:
            where = f" in {measured.phase.value}" if measured.phase else ""
            missing = result.shortfall_bytes
            raise DoesNotFitError(
                f"batch {size:,} does not run on {probe.device.name}: {measured.message}{where}"
                + (f"; at least {format_bytes(missing)} short" if missing else ""),
                "run `vram find-batch` with the same options to find the largest that does",
                result,
            )
        return result


def _no_snapshot() -> ConfigError:
    return ConfigError(
        "--snapshot is written from predictions only",
        "for a real run, call torch.cuda.memory._record_memory_history() in your own script",
    )
