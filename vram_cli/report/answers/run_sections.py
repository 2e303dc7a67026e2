"""Sections about the run behind an answer: device, data, config and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import yaml

from vram_cli.records import Breakdown, Category, DataInfo, Device, Measurement, Phase, RunInfo, TensorInfo
from vram_cli.report import document as doc
from vram_cli.report.answers.parallel import parallel_lines
from vram_cli.report.answers.script import script_lines
from vram_cli.report.next_step import Step
from vram_cli.report.words import ENGINES, count, number, one_line, origin, setting
from vram_cli.units import format_bytes

_TENSORS_SHOWN = 6
_READS_SHOWN = 4
_FOREACH = ("sgd", "adam", "adamw", "rmsprop", "adagrad")


class _Configured(Protocol):
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def overrides(self) -> tuple[str, ...]: ...


def context(command: str, run: RunInfo) -> str:
    """Return the command, the config and the origin of the figures, as one line."""
    return f"vram {command} · {run.config_name} · {origin(run.device)}"


def evidence(run: RunInfo, *more: doc.Line, formats: frozenset[doc.Format] = doc.ALL_FORMATS) -> doc.Details:
    """Return how an answer was obtained; `more` are lines about its trials."""
    device = run.device
    lines = [
        ("device", device.name if device.type.lower() in device.name.lower() else f"{device.name} ({device.type})"),
        ("memory", _memory(device)),
        ("engine", ENGINES.get(device.engine, "")),
        ("accuracy", device.accuracy),
        ("processes", "\n".join(one_line(line) for line in device.other_processes)),
        *parallel_lines(run),
        *(script_lines(run) or _config_lines(run)),
        *more,
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]
    shown = tuple((name, text) for name, text in lines if text)
    title = f"How it was {'predicted' if device.is_simulated else 'measured'}"
    return doc.Details(title, (doc.Pairs(shown),), formats=formats)


def samples_seen(run: RunInfo) -> tuple[doc.Line, ...]:
    """Return how many samples the worst batch was chosen from, if there are others."""
    data = run.data
    if data is None or data.samples_measured is None or data.samples_measured == data.samples_total:
        return ()
    if data.samples_total is None:
        others = "the stream goes on, and later ones may be larger"
    else:
        others = f"the other {number(data.samples_total - data.samples_measured)} may be larger"
    seen = f"of the {count(data.samples_measured, 'sample')} looked at; {others}"
    return (("Worst batch:", seen),)


def config_section(run: _Configured) -> doc.Details:
    """Return the overrides and the whole config, for a page."""
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    changes = (doc.Pairs((("changed by flags", ", ".join(run.overrides)),)),) if run.overrides else ()
    whole = doc.Details("The whole config, defaults included", (doc.Code(text, "yaml"),))
    return doc.Details("Config", (*changes, whole), formats=frozenset({"html"}))


def commands(next_step: Step, again: Step | None = None) -> tuple[doc.Block, ...]:
    """Return the command to try next, and on pages the one that reproduces the answer."""
    step = doc.Command(next_step.purpose, next_step.words)
    if again is None:
        return (step,)
    same = doc.Command(again.purpose, again.words)
    return (
        doc.Command(step.purpose, step.words, formats=frozenset({"text"})),
        doc.Command(same.purpose, same.words, formats=frozenset({"markdown"})),
        doc.Details("Commands", (same, step), formats=frozenset({"html"})),
    )


def notes(*texts: str, label: str = "Note:") -> tuple[doc.Block, ...]:
    """Return remarks as a block, if there are any."""
    lines = tuple((label, text) for text in texts if text)
    return (doc.Notes(lines),) if lines else ()


def trial_notes(trials: Iterable[Measurement]) -> tuple[str, ...]:
    """Return the remarks of trials, each once, and what the training read."""
    trials = tuple(trials)
    texts = dict.fromkeys(note for trial in trials for note in trial.notes)
    return (*(f"{text[:1].upper()}{text[1:]}." for text in texts), reads_note(trials))


def reads_note(trials: Iterable[Measurement]) -> str:
    """Return what the training read that only a GPU knows, by line; "" if it read nothing."""
    reads = {(read.line, read.value): read for trial in trials for read in trial.reads if read.line}
    computed, kept, most = ([line for line, value in reads if value == word] for word in ("computed", "kept", "most"))
    told = []
    if computed:
        told.append(f"values that only a GPU computes at {_listed(computed)}: 0 was assumed, or that a check passes")
    if kept:
        told.append(f"values that a kernel may have changed at {_listed(kept)}: they were assumed to be as before")
    if most:
        told.append(
            f"how many elements a mask or a sparse gradient selects at {_listed(most)}: all were assumed, which "
            "takes the most memory"
        )
    return f"The training read {'; and '.join(told)}." if told else ""


def foreach_note(breakdown: Breakdown | None, run: RunInfo) -> str:
    """Return what the optimizer takes at the peak because it updates all parameters at once; "" if it does not.

    That is PyTorch's default on a GPU (_default_to_fused_or_foreach in torch/optim/optimizer.py).
    """
    foreach, fused = setting(run, "optimizer.foreach"), setting(run, "optimizer.fused")
    is_foreach = (run.device.is_gpu if foreach is None else foreach) and not fused
    if breakdown is None or breakdown.peak_phase is not Phase.OPTIMIZER or not is_foreach:
        return ""
    if setting(run, "optimizer.name") not in _FOREACH or not (size := breakdown.bytes_of(Category.TEMPORARIES)):
        return ""
    default = ", PyTorch's default on a GPU," if foreach is None else ""
    return (
        f"The peak is in the optimizer's step: foreach{default} updates all parameters at once, with "
        f"{format_bytes(size)} of temporaries. --set optimizer.fused=true or optimizer.foreach=false avoids them."
    )


def _listed(lines: Sequence[str]) -> str:
    more = len(lines) - _READS_SHOWN
    return ", ".join(lines[:_READS_SHOWN]) + (f" and {count(more, 'more line')}" if more > 0 else "")


def _memory(device: Device) -> str:
    size = format_bytes(device.capacity_bytes)
    whole = size if device.memory_limit_bytes is None else f"a limit of {size}"
    return f"{whole}, enforced by {device.limit_enforced_by}" if device.limit_enforced_by else whole


def _config_lines(run: RunInfo) -> tuple[doc.Line, ...]:
    return ("config", _config(run)), ("data", "" if run.data is None else _data(run.data))


def _config(run: RunInfo) -> str:
    steps = ("step.function", "optimizer.name", "optimizer.factory") if setting(run, "mode") != "eval" else ("mode",)
    keys = ("model.name", "model.factory", *steps, "precision")
    values = ", ".join(str(value) for value in (setting(run, key) for key in keys) if value is not None)
    values += " (floating parameters are converted to bfloat16)" if setting(run, "precision") == "bf16" else ""
    return f"{run.config_name}: {values}" if values else run.config_name


def _data(data: DataInfo) -> str:
    name = data.name if data.name == data.source else f"{data.name}, {data.source}"
    sample = [_tensor(tensor, named=len(data.tensors) > 1) for tensor in data.tensors[:_TENSORS_SHOWN]]
    sample += [f"{len(data.tensors) - _TENSORS_SHOWN} more"] if len(data.tensors) > _TENSORS_SHOWN else []
    sample += [count(data.classes, "class", "classes")] if data.classes else []
    return f"{name} ({data.detail}); {', '.join(sample)}"


def _tensor(tensor: TensorInfo, *, named: bool) -> str:
    shape = "x".join(str(size) for size in tensor.shape) or "1"
    return f"{one_line(tensor.name)} {shape} {tensor.dtype}" if named else f"{shape} {tensor.dtype}"
