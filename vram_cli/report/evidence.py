"""How an answer was come by: the device, the data, the trials that prove it, and the versions they ran on."""

from __future__ import annotations

from collections import Counter

from vram_cli.records import DataInfo, Device, Result, TensorInfo
from vram_cli.report.throughput import timed_words
from vram_cli.report.words import OUTCOME_LABELS, count, duration, ended, number, one_line, setting
from vram_cli.units import format_bytes

_MESSAGE_LIMIT = 100
"""Characters of an exception's message: its kind and what it asked for. The rest is in the JSON."""

_TENSORS_SHOWN = 6


def evidence_title(result: Result) -> str:
    """Return what the lines of `evidence` are about."""
    return "How it was measured" if result.run.device.kind == "real" else "How it was predicted"


def evidence(result: Result) -> list[tuple[str, str]]:
    """Return name and text of each line; lines about which nothing is known are left out."""
    lines = [
        ("device", _device(result.run.device)),
        ("memory", _memory(result.run.device)),
        ("accuracy", result.run.device.accuracy),
        ("others", "\n".join(one_line(line) for line in result.run.device.other_processes)),
        ("config", _config(result)),
        ("data", "" if result.run.data is None else _data(result.run.data)),
        ("trials", _trials(result)),
        ("proof", "; ".join(proof(result, _MESSAGE_LIMIT))),
        ("speed", timed_words(result.throughput) if result.throughput else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in result.run.versions.items())),
    ]
    return [(name, text) for name, text in lines if text]


def _device(device: Device) -> str:
    return device.name if device.type.lower() in device.name.lower() else f"{device.name} ({device.type})"


def _memory(device: Device) -> str:
    size = format_bytes(device.capacity_bytes)
    whole = size if device.memory_limit_bytes is None else f"a budget of {size}"
    return f"{whole}, enforced by {device.limit_enforced_by}" if device.limit_enforced_by else whole


def _config(result: Result) -> str:
    keys = (
        ("model", "name"),
        ("model", "factory"),
        ("step", "function"),
        ("optimizer", "name"),
        ("optimizer", "factory"),
        ("precision",),
    )
    chosen = ", ".join(str(value) for value in (setting(result.run.config, *key) for key in keys) if value is not None)
    return f"{result.run.config_name}: {chosen}" if chosen else result.run.config_name


def _data(data: DataInfo) -> str:
    name = data.name if data.name == data.source else f"{data.name}, {data.source}"
    sample = [_tensor(tensor, named=len(data.tensors) > 1) for tensor in data.tensors[:_TENSORS_SHOWN]]
    sample += [f"{len(data.tensors) - _TENSORS_SHOWN} more"] if len(data.tensors) > _TENSORS_SHOWN else []
    sample += [count(data.classes, "class", "classes")] if data.classes else []
    return f"{name} ({data.detail}); {', '.join(sample)}"


def _tensor(tensor: TensorInfo, *, named: bool) -> str:
    shape = "x".join(str(size) for size in tensor.shape) or "1"
    return f"{one_line(tensor.name)} {shape} {tensor.dtype}" if named else f"{shape} {tensor.dtype}"


def _trials(result: Result) -> str:
    if not result.trials:
        return "none"
    steps = max(trial.steps for trial in result.trials)
    ran = sum(trial.fits for trial in result.trials)
    real = result.run.device.kind == "real"
    went = f"ran to the end ({count(steps, 'full training step')})" if real else "fit, by prediction"
    ends = [f"{number(ran)} {went}"] if ran else []
    failed = Counter(OUTCOME_LABELS[trial.outcome] for trial in result.trials if not trial.fits)
    ends += [f"{number(times)} {label}" for label, times in failed.items()]
    seconds = duration(sum(trial.seconds for trial in result.trials))
    return f"{number(len(result.trials))} in {seconds}: {', '.join(ends)}"


def proof(result: Result, message_limit: int) -> tuple[str, ...]:
    """Return what ran, and what did not with the words of the exception; nothing where nothing ran."""
    known = result.certificate
    if known is None:
        return ()
    real = result.run.device.kind == "real"
    ran = f"{number(known.largest_ok)} " + (f"ran {count(known.steps, 'full step')}" if real else "is predicted to fit")
    if known.smallest_failed is None or known.outcome is None:
        return ran, "nothing larger was tried"
    words = f": {one_line(known.message, message_limit)}" if known.message else ""
    return ran, f"{number(known.smallest_failed)} {ended(known.outcome, known.phase)}{words}"
