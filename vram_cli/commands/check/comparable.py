"""Whether a baseline answers the same question as today's run, so that a difference is one of the training's code.

Refused: another version, another device, another way to train. Compared: what the code makes of the config, and the
sizes that the config hands to it, such as `model.kwargs` or an image's shape: more layers are what a gate is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vram_cli.errors import ConfigError
from vram_cli.records import Result
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
"""Keys, with all below them, that say how large a training is: changes of these are compared, and told."""

_NO_MATTER = (
    "data.source",
    "data.root",
    "data.num_samples",
    "train.learning_rate",
    "search",
    "device.name",
    "device.gpu",
    "device.overhead",
)
"""Keys that no byte of the allocator's depends on; which device it was is asked of the device itself."""

_ON_OR_OFF = ("optimizer.momentum", "optimizer.weight_decay", "train.clip_grad_norm")
"""Keys of which it matters only whether they are above 0."""

_UPDATE = "if that is meant, run again with --update-baseline and commit the file"
_CAPACITY_SLACK = 0.01  # a driver's update moves what a card reports by some MiB


def require_comparable(now: Result, baseline: Result, name: str) -> None:
    """Check that a baseline answers the question that is asked now.

    Args:
        now: config, device and versions of the run; its trials are not looked at.
        baseline: what was kept.
        name: the baseline's file, for messages.

    Raises:
        ConfigError: it does not; the message says in what they differ.
    """
    if baseline.command != "breakdown" or not baseline.trials or not baseline.trials[-1].fits:
        raise ConfigError(
            f"{name}: this result of `vram {baseline.command}` is no baseline", "--update-baseline makes one"
        )
    if reason := next(_differences(now, baseline), None):
        raise ConfigError(f"{name} is not comparable: {reason}", _UPDATE)


def config_changes(now: Result, baseline: Result) -> tuple[str, ...]:
    """Return the changes of sizes in the config, such as "model.kwargs.depth was 2, is 3"."""
    return tuple(_change(key, then, today) for key, then, today in _changed(now, baseline) if _is_of(key, SIZES))


def _differences(now: Result, baseline: Result) -> Iterator[str]:
    for package, digits in (("vram", None), ("torch", 2)):
        then, today = (_version(result, package, digits) for result in (baseline, now))
        if then != today:
            yield _change(package, then, today)
    yield from _device_differences(now, baseline)
    for key, then, today in _changed(now, baseline):
        if not _is_of(key, SIZES):
            yield _change(key, then, today)


def _device_differences(now: Result, baseline: Result) -> Iterator[str]:
    then, today = baseline.run.device, now.run.device
    if then.kind != today.kind:
        words = {"real": "measured", "simulated": "predicted"}
        yield f"it was {words.get(then.kind, then.kind)}, and this is {words.get(today.kind, today.kind)}"
    if then.name != today.name:
        yield f"it is of {then.name}, and this is {today.name}"
    # The CPU's is the RAM that is free today.
    if today.type != "cpu" and abs(then.capacity_bytes - today.capacity_bytes) > _CAPACITY_SLACK * then.capacity_bytes:
        yield f"the device had {format_bytes(then.capacity_bytes)}, and has {format_bytes(today.capacity_bytes)}"


def _version(result: Result, package: str, digits: int | None) -> str:
    return ".".join(result.run.versions.get(package, "unknown").split("+")[0].split(".")[:digits])


def _changed(now: Result, baseline: Result) -> Iterator[tuple[str, Any, Any]]:
    then, today = dict(_flat(baseline.run.config)), dict(_flat(now.run.config))
    for key in {**today, **then}:
        pair = then.get(key), today.get(key)
        matters = not _is_of(key, _NO_MATTER) or key == "search.steps"
        same = bool(pair[0]) == bool(pair[1]) if key in _ON_OR_OFF else pair[0] == pair[1]
        if matters and not same:
            yield (key, *pair)


def _flat(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _is_of(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == other or key.startswith(f"{other}.") for other in keys)


def _change(key: str, then: Any, today: Any) -> str:
    return f"{key} was {_shown(then)}, is {_shown(today)}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
