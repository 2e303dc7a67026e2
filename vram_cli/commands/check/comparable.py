"""Whether a baseline is comparable with a run, so that a difference comes from the code of the training.

Another version, another device and another way to train are refused. Sizes in the config, such as `model.kwargs` or the
shape of an image, may differ: a check exists to detect, for example, added layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vram_cli.config_diff import describe_change, differing_keys, flatten
from vram_cli.errors import ConfigError
from vram_cli.records import BreakdownResult, FindBatchResult, RunInfo
from vram_cli.units import format_bytes

SIZES = (
    "model.hidden",
    "model.kwargs",
    "data.shape",
    "data.classes",
    "data.inputs",
    "data.targets",
    "data.kwargs",
    "loss.kwargs",
)
"""Keys, nested ones included, that set the size of a training: their changes are reported, not refused."""

_IRRELEVANT = (
    "data.source",
    "data.root",
    "data.num_samples",
    "train.learning_rate",
    "script.isolation",
    "search",
    "device.name",
    "device.engine",
    "device.gpu",
    "device.overhead",
)
"""Keys that do not affect allocated memory; the device is compared by its own record."""

_ON_OR_OFF = ("optimizer.momentum", "optimizer.weight_decay", "train.clip_grad_norm")
"""Keys of which only zero or non-zero affects memory."""

_UPDATE = "if that is intended, run again with --update-baseline and commit the file"
_NO_BASELINE = "--update-baseline writes a baseline"
_CAPACITY_SLACK = 0.01  # a driver update changes the reported memory of a GPU by some MiB


def comparable_baseline(
    now: RunInfo, batch_size: int, baseline: BreakdownResult | FindBatchResult, name: str
) -> BreakdownResult:
    """Return the baseline if it is comparable; for a search, its trial of the batch size.

    Args:
        now: config, device and versions of the run.
        batch_size: its batch size.
        baseline: a saved result.
        name: the baseline's file, for messages.

    Raises:
        ConfigError: the baseline is not comparable; the message names the difference.
    """
    if isinstance(baseline, FindBatchResult):
        trials = [trial for trial in baseline.trials if trial.batch_size == batch_size and trial.fits]
        if not trials:
            raise ConfigError(f"{name}: this search has no trial of batch size {batch_size:,} that fits", _NO_BASELINE)
        breakdown = baseline.breakdown
        if breakdown is not None and breakdown.batch_size != batch_size:
            breakdown = None
        # A search tries many sizes, so the one in its config need not match.
        run = _sized(baseline.run, batch_size)
        baseline = BreakdownResult(run=run, measurement=trials[-1], breakdown=breakdown)
    if not baseline.measurement.fits:
        raise ConfigError(f"{name}: did not fit, so it has no peak to compare with", _NO_BASELINE)
    earlier = baseline.run
    if now.script is not None:  # its own batch size is in no config
        now, earlier = _sized(now, batch_size), _sized(earlier, baseline.measurement.batch_size)
    if reason := next(_differences(now, earlier), None):
        raise ConfigError(f"{name} is not comparable: {reason}", _UPDATE)
    return baseline


def _sized(run: RunInfo, batch_size: int) -> RunInfo:
    """Return a run whose config has the batch size that ran."""
    return replace(run, config={**run.config, "train": {**run.config.get("train", {}), "batch_size": batch_size}})


def config_changes(now: RunInfo, baseline: RunInfo) -> tuple[str, ...]:
    """Return the changes of sizes in the config, such as "model.kwargs.depth was 2, is 3"."""
    return tuple(describe_change(*change) for change in _changed(now, baseline) if _is_under(change[0], SIZES))


def _differences(now: RunInfo, baseline: RunInfo) -> Iterator[str]:
    for package, digits in (("vram", None), ("torch", 2)):
        then, today = (_version(run, package, digits) for run in (baseline, now))
        if then != today:
            yield describe_change(package, then, today)
    yield from _device_differences(now, baseline)
    for change in _changed(now, baseline):
        if not _is_under(change[0], SIZES):
            yield describe_change(*change)


def _device_differences(now: RunInfo, baseline: RunInfo) -> Iterator[str]:
    then, today = baseline.device, now.device
    if then.kind != today.kind:
        words = {"real": "measured", "simulated": "predicted"}
        yield f"it was {words.get(then.kind, then.kind)}, this run is {words.get(today.kind, today.kind)}"
    elif then.engine != today.engine:
        yield f"it was predicted by {then.engine or 'fake-tensors'}, this run is by {today.engine}"
    if then.name != today.name:
        yield f"it ran on {then.name}, this run is on {today.name}"
    # The capacity of a CPU is the RAM that is free now.
    if today.type != "cpu" and abs(then.capacity_bytes - today.capacity_bytes) > _CAPACITY_SLACK * then.capacity_bytes:
        yield f"the device had {format_bytes(then.capacity_bytes)}, and has {format_bytes(today.capacity_bytes)}"


def _version(run: RunInfo, package: str, digits: int | None) -> str:
    return ".".join(run.versions.get(package, "unknown").split("+")[0].split(".")[:digits])


def _changed(now: RunInfo, baseline: RunInfo) -> Iterator[tuple[str, Any, Any]]:
    for key, old, new in differing_keys(flatten(baseline.config), flatten(now.config)):
        matters = not _is_under(key, _IRRELEVANT) or key == "search.steps"
        if matters and not (key in _ON_OR_OFF and bool(old) == bool(new)):
            yield key, old, new


def _is_under(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == other or key.startswith(f"{other}.") for other in keys)
