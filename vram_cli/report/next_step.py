"""The command that is worth trying next, given an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vram_cli.records import Advice, BreakdownResult, FindBatchResult, Limit, Outcome, RunInfo
from vram_cli.report.words import setting
from vram_cli.shell import command_name
from vram_cli.units import GIB, KIB, MIB

DEFAULT_CONFIG = "mlp_mnist.yaml"
"""The config that commands use by default, so that it need not be named."""


_FLAGS = {"mode": "--mode", "parallel.ranks": "--ranks", "parallel.strategy": "--strategy", "parallel.nccl": "--nccl"}
"""Flags that are shorter than an override of their key."""


@dataclass(frozen=True)
class Step:
    """A command and its purpose."""

    purpose: str
    words: tuple[str, ...]
    """The command line, word by word, not yet quoted for a shell."""


def next_step(result: FindBatchResult) -> Step:
    """Return the command that most likely answers the reader's next question."""
    if result.interrupted or not result.trials:
        return _step(result.run, "search to the end", "find-batch")
    if result.max_batch_size is None:
        return _after_nothing(result.run)
    return _after_success(result, result.max_batch_size)


def after_breakdown(result: BreakdownResult) -> Step:
    """Return the command that follows a breakdown."""
    return _step(result.run, "find the largest batch that fits", "find-batch")


def again(result: FindBatchResult | BreakdownResult) -> Step:
    """Return the command that reproduces the result."""
    size = ("--batch-size", str(result.measurement.batch_size)) if isinstance(result, BreakdownResult) else ()
    return _step(result.run, "reproduce this answer", result.command, *size)


def to_use(advice: Advice) -> Step:
    """Return the command that applies an advice: the plan that was asked for, or else the best changes."""
    run = advice.run
    for plan in (advice.fit_batch, advice.effective_batch):
        if plan is not None and plan.micro_batch_size is not None:
            steps = plan.gradient_accumulation_steps
            overrides = (*plan.overrides, *((f"train.gradient_accumulation_steps={steps}",) if steps > 1 else ()))
            words = ("breakdown", "--batch-size", str(plan.micro_batch_size))
            return _changed(run, overrides, f"see where the memory goes at {plan.batch_size:,}", *words)
    for gpus in advice.fewest_gpus:
        if gpus.batch_size is not None:
            words = ("breakdown", "--batch-size", str(gpus.batch_size))
            return _changed(run, gpus.overrides, "see where the memory of a rank goes then", *words)
    if advice.best is not None:
        return _changed(run, advice.best.overrides, "search for the largest batch with them", "find-batch")
    if advice.max_batch_size is None and advice.optimizations:
        return _after_nothing(run)
    return _step(run, "search for the largest batch without changes", "find-batch")


def _changed(run: RunInfo, changes: Sequence[str], purpose: str, command: str, *words: str) -> Step:
    """Return a command with changes of a run, and without the overrides of the run that they replace."""
    keys = {change.partition("=")[0] for change in changes}
    kept = tuple(override for override in run.overrides if not _is_replaced(override.partition("=")[0], keys))
    return _step(replace(run, overrides=kept), purpose, command, *words, *_flags(changes))


def _is_replaced(key: str, keys: set[str]) -> bool:
    """Return whether keys replace another one: itself, its section, or the strategy that it is for."""
    section = key.partition(".")[0]
    is_of_strategy = section == "parallel" and key not in ("parallel.ranks", "parallel.nccl")
    return key in keys or section in keys or (is_of_strategy and "parallel.strategy" in keys)


def _flags(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for override in overrides for word in ("--set", override))


def _after_nothing(run: RunInfo) -> Step:
    if setting(run, "precision") != "bf16" and not setting(run, "script"):
        return _step(run, "see whether bfloat16 throughout fits", "find-batch", "--set", "precision=bf16")
    device = ("--device", "cpu", "--memory-limit", _size(2 * run.device.capacity_bytes))
    words = ("vram", "breakdown", *_config(run), *device, "--batch-size", "1", *_script(run))
    return Step("measure its memory on the CPU, with twice the memory", words)


def _after_success(result: FindBatchResult, largest: int) -> Step:
    run = result.run
    if result.limited_by is Limit.DATASET:
        purpose = "see how far memory goes" if run.device.is_simulated else "measure how far memory goes"
        return _step(run, purpose, "find-batch", "--no-dataset-limit")
    if result.limited_by is Limit.MAX_BATCH_SIZE:
        higher = 2 * (result.extrapolated_batch_size or largest)
        return _step(run, "search further", "find-batch", "--max-batch-size", str(higher))
    if result.limited_by is Limit.TIME:
        return _after_time(result)
    failing = result.certificate.smallest_failed if result.certificate else None
    if result.limited_by in (Limit.KERNEL_LIMIT, Limit.ERROR) and failing is not None:
        return _step(run, "see that error in full", "breakdown", "--batch-size", str(failing))
    # A step of the user's own has its own precision.
    full = setting(run, "precision") in ("fp32", "tf32") and not setting(run, "step")
    if result.limited_by is Limit.MEMORY and full:
        return _step(run, "see what mixed precision gains", "find-batch", "--set", "precision=amp-bf16")
    size = str(result.recommended_batch_size or largest)
    return _step(run, "see where the memory goes at one size", "breakdown", "--batch-size", size)


def _after_time(result: FindBatchResult) -> Step:
    timed_out = result.certificate is not None and result.certificate.outcome is Outcome.TIMED_OUT
    seconds = setting(result.run, f"search.{'trial_timeout' if timed_out else 'time_limit'}")
    longer = 4 * seconds if isinstance(seconds, (int, float)) else 3600
    flag = ("--set", f"search.trial_timeout={longer:g}") if timed_out else ("--time-limit", f"{longer:g}")
    return _step(result.run, "search again with more time", "find-batch", *flag)


def _step(run: RunInfo, purpose: str, command: str, *words: str) -> Step:
    """Return a command with the config, device, memory limit and overrides of a run, as far as it takes them."""
    device, gpu, limit = setting(run, "device.name"), setting(run, "device.gpu"), run.device.memory_limit_bytes
    same: tuple[str, ...] = ("--device", device) if isinstance(device, str) and device != "auto" else ()
    same += ("--gpu", gpu) if isinstance(gpu, str) else ()
    is_of_all = setting(run, "parallel.memory_limits") is None
    same += ("--memory-limit", _size(limit)) if limit is not None and is_of_all else ()
    for override in run.overrides:
        key, _, value = override.partition("=")
        if key in _FLAGS:
            same += (_FLAGS[key], value)
        elif key not in _keys_set_by(words) and _concerns(key, command):
            same += ("--set", override)
    return Step(purpose, ("vram", command, *_config(run), *same, *words, *_script(run)))


def _keys_set_by(words: tuple[str, ...]) -> set[str]:
    """Return the config keys that a command line sets."""
    flags = {
        "--batch-size": "train.batch_size",
        "--no-dataset-limit": "search.limit_to_dataset",
        "--max-batch-size": "search.max_batch_size",
        "--time-limit": "search.time_limit",
    }
    sets = {after.partition("=")[0] for word, after in pairwise(words) if word == "--set"}
    return sets | {flags[word] for word in words if word in flags}


def _concerns(key: str, command: str) -> bool:
    """Return whether an override matters to a command; device, GPU and memory limit have flags of their own.

    So has the command of a script, which comes last.
    """
    if key in ("device", "device.name", "device.gpu", "device.memory_limit", "script.command"):
        return False
    return command == "find-batch" or not key.startswith("search.") or key == "search.steps"


def _config(run: RunInfo) -> tuple[str, ...]:
    is_file = run.config_name not in (DEFAULT_CONFIG, command_name(_command(run)))
    return ("--config", run.config_name) if is_file else ()


def _script(run: RunInfo) -> tuple[str, ...]:
    """Return the command of a script as the end of a command line, unless a config file has it."""
    command = _command(run)
    is_in_file = _config(run) and not any(override.startswith("script.command=") for override in run.overrides)
    return () if not command or is_in_file else ("--", *command)


def _command(run: RunInfo) -> tuple[str, ...]:
    command = setting(run, "script.command")
    return tuple(map(str, command)) if isinstance(command, (list, tuple)) else ()


def _size(value: int) -> str:
    """Return bytes as `--memory-limit` takes them, without rounding."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value}B"
