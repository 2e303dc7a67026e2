"""Which command is worth trying next, given an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vram_cli.records import Advice, Limit, Outcome, Result
from vram_cli.report.words import setting
from vram_cli.units import GIB, KIB, MIB

DEFAULT_CONFIG = "mlp_mnist.yaml"
"""The config that every command takes where none is named, so that it need not be named here either."""


@dataclass(frozen=True)
class Step:
    """A command and what it is good for."""

    purpose: str
    words: tuple[str, ...]
    """The command line, word by word, not yet quoted for a shell."""


def next_step(result: Result) -> Step:
    """Return the command that most likely answers the reader's next question."""
    if result.command == "breakdown":
        return _step(result, "find the largest batch that fits", "find-batch")
    if result.interrupted or not result.trials:
        return _step(result, "search to the end", "find-batch")
    if result.max_batch_size is None:
        return _after_nothing(result)
    return _after_success(result, result.max_batch_size)


def again(result: Result) -> Step:
    """Return the command that asks the result's own question once more."""
    if result.command == "breakdown" and result.trials:
        return _step(result, "get this answer again", "breakdown", "--batch-size", str(result.trials[-1].batch_size))
    return _step(result, "get this answer again", result.command)


def to_use(advice: Advice) -> Step:
    """Return the command that makes use of an advice: of what was asked, or else of the best changes found."""
    for split in (advice.fit, advice.effective):
        if split is not None and split.micro_batch_size is not None:
            pieces = (f"train.gradient_accumulation_steps={split.accumulate}",) if split.accumulate > 1 else ()
            words = ("breakdown", "--batch-size", str(split.micro_batch_size), *_flags((*split.sets, *pieces)))
            return _step(advice, f"see where the memory goes with {split.wanted:,}", *words)
    if advice.best is not None:
        return _step(advice, "search for the limit with the best of them", "find-batch", *_flags(advice.best.sets))
    if advice.max_batch_size is None and advice.levers:
        return _after_nothing(advice)
    return _step(advice, "search for the limit as it is", "find-batch")


def _flags(sets: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for text in sets for word in ("--set", text))


def _after_nothing(result: Result | Advice) -> Step:
    if setting(result.run.config, "precision") != "bf16":
        return _step(result, "see whether bfloat16 throughout fits", "find-batch", "--set", "precision=bf16")
    room = ("--device", "cpu", "--memory-limit", _size(2 * result.run.device.capacity_bytes))
    words = ("vram", "breakdown", *_config(result), *room, "--batch-size", "1")
    return Step("see on the CPU what it takes, with twice the memory", words)


def _after_success(result: Result, largest: int) -> Step:
    if result.limited_by is Limit.DATASET:
        purpose = (
            "find out by real steps how far memory goes"
            if result.run.device.kind == "real"
            else "see how far memory goes"
        )
        return _step(result, purpose, "find-batch", "--no-dataset-limit")
    if result.limited_by is Limit.MAX_BATCH_SIZE:
        higher = 2 * (result.extrapolated_batch_size or largest)
        return _step(result, "look further", "find-batch", "--max-batch-size", str(higher))
    if result.limited_by is Limit.TIME:
        return _after_time(result)
    failing = result.certificate.fails if result.certificate else None
    if result.limited_by in (Limit.KERNEL_LIMIT, Limit.ERROR) and failing is not None:
        return _step(result, "see that error in full", "breakdown", "--batch-size", str(failing))
    full = setting(result.run.config, "precision") in ("fp32", "tf32")
    if (
        result.limited_by is Limit.MEMORY and full and not result.run.config.get("step")
    ):  # a step of one's own has its own
        return _step(result, "see what mixed precision makes room for", "find-batch", "--set", "precision=amp-bf16")
    size = str(result.recommended_batch_size or largest)
    return _step(result, "see where the memory goes at one size", "breakdown", "--batch-size", size)


def _after_time(result: Result) -> Step:
    timed_out = result.certificate is not None and result.certificate.outcome is Outcome.TIMED_OUT
    key = "trial_timeout" if timed_out else "time_limit"
    seconds = setting(result.run.config, "search", key)
    longer = 4 * seconds if isinstance(seconds, (int, float)) else 3600
    flag = ("--set", f"search.trial_timeout={longer:g}") if timed_out else ("--time-limit", f"{longer:g}")
    return _step(result, "search again with more time", "find-batch", *flag)


def _step(result: Result | Advice, purpose: str, command: str, *words: str) -> Step:
    """Return a command on the same config, device, budget and overrides as the result's, as far as it takes them."""
    device, budget = setting(result.run.config, "device", "name"), result.run.device.memory_limit_bytes
    same: tuple[str, ...] = ("--device", device) if isinstance(device, str) and device != "auto" else ()
    gpu = setting(result.run.config, "device", "gpu")
    same += ("--gpu", gpu) if isinstance(gpu, str) else ()
    same += ("--memory-limit", _size(budget)) if budget is not None else ()
    for override in result.run.overrides:
        key = override.partition("=")[0]
        if key not in _said(words) and _concerns(key, command):
            same += ("--set", override)
    return Step(purpose, ("vram", command, *_config(result), *same, *words))


def _said(words: tuple[str, ...]) -> set[str]:
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
    """Whether an override matters to a command; the device, the card and the budget have flags of their own."""
    if key in ("device", "device.name", "device.gpu", "device.memory_limit"):
        return False
    return command == "find-batch" or not key.startswith("search.") or key == "search.steps"


def _config(result: Result | Advice) -> tuple[str, ...]:
    return () if result.run.config_name == DEFAULT_CONFIG else ("--config", result.run.config_name)


def _size(value: int) -> str:
    """Write bytes as `--memory-limit` takes them, losing none."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value % factor == 0:
            return f"{value // factor}{unit}"
    return f"{value}B"
