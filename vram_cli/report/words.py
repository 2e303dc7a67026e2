"""How single things are worded: categories, outcomes, counts, times; and how text that users wrote is made harmless."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from vram_cli.records import Category, Device, Measurement, Outcome, Phase
from vram_cli.units import format_bytes

CATEGORY_LABELS = {
    Category.PARAMETERS: "parameters",
    Category.GRADIENTS: "gradients",
    Category.OPTIMIZER_STATE: "optimizer state",
    Category.BATCH_DATA: "batch data",
    Category.ACTIVATIONS: "activations",
    Category.TEMPORARIES: "temporaries and workspaces",
    Category.ALLOCATOR_SLACK: "allocator slack",
    Category.CONTEXT: "context and other processes",
    Category.FREE: "free",
}

OUTCOME_LABELS = {
    Outcome.FITS: "fits",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.KERNEL_LIMIT: "kernel limit",
    Outcome.HOST_MEMORY: "host memory",
    Outcome.KILLED: "killed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.ERROR: "error",
}

_VERBS = {
    Outcome.FITS: "ran to the end",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
    Outcome.KERNEL_LIMIT: "was refused by a kernel",
    Outcome.HOST_MEMORY: "would have taken the computer's own RAM",
    Outcome.KILLED: "was killed",
    Outcome.TIMED_OUT: "ran out of time",
    Outcome.ERROR: "raised an error",
}

_PLACES = {
    Phase.BUILD: "while building the model",
    Phase.BATCH: "while loading the batch",
    Phase.FORWARD: "in forward",
    Phase.BACKWARD: "in backward",
    Phase.OPTIMIZER: "in the optimizer step",
}


def literal(text: str, style: str = "") -> Text:
    """Return text that vram did not write itself, to be shown as it is: no markup, control characters spelled out."""
    return Text(spelled(text), style)


def spelled(text: str) -> str:
    """Return the text with its control characters, and others that cannot be seen, spelled out: "\\x1b"."""
    return "".join(char if char.isprintable() or char in "\n\t" else _spelled(char) for char in text)


def one_line(text: str, limit: int = 160) -> str:
    """Return the text on one line, cut at `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def number(value: int) -> str:
    """Return "1,536"."""
    return f"{value:,}"


def count(value: int, singular: str, plural: str = "") -> str:
    """Return "1 trial" or "1,200 trials"; `plural` is needed only where it is not formed with s."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def place(phase: Phase | None) -> str:
    """Return where something happened, such as "in backward", or "" where nobody can tell."""
    return "" if phase is None else _PLACES[phase]


def ended(outcome: Outcome, phase: Phase | None) -> str:
    """Return how a trial ended as a predicate: "ran out of memory in backward"."""
    return f"{_VERBS[outcome]} {place(phase)}".rstrip()


def outcome_label(trial: Measurement) -> str:
    """Return how a trial ended as a label: "fits", "fits, but thrashes", "out of memory in backward"."""
    if trial.thrashing:
        return "fits, but thrashes"
    return f"{OUTCOME_LABELS[trial.outcome]} {place(trial.phase)}".rstrip()


def used_of(used: int, total: int) -> str:
    """Return "10.8 of 12.0 GiB", or "812 MiB of 2.00 GiB" where the units differ."""
    part, unit = format_bytes(used).split(" ")
    whole = format_bytes(total)
    return f"{part} of {whole}" if whole.endswith(f" {unit}") else f"{part} {unit} of {whole}"


def percent(part: int, whole: int, digits: int = 0) -> str:
    """Return "90 %"; 0 % of nothing."""
    return f"{100 * part / whole if whole else 0:.{digits}f} %"


def duration(seconds: float) -> str:
    """Return "0.8 s", "41 s", "3 min 12 s" or "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def three_digits(value: float) -> str:
    """Return a figure of a measurement with three significant digits: "0.123", "4.56", "78.9", "12,300"."""
    if value < 99.95:
        return f"{value:.{1 if value >= 9.995 else 2 if value >= 0.9995 else 3}f}"
    unit: int = 10 ** max(len(str(round(value))) - 3, 0)
    return number(round(value / unit) * unit)


def step_time(seconds: float) -> str:
    """Return "4.56 ms" or "1.23 s"."""
    return f"{three_digits(seconds)} s" if seconds >= 0.9995 else f"{three_digits(1000 * seconds)} ms"


def per_second(samples: float) -> str:
    """Return "12,300 samples/s"."""
    return f"{three_digits(samples)} samples/s"


def origin(device: Device) -> str:
    """Return where the figures come from: "measured", or "predicted for <card>" where no step ran on it."""
    return "measured" if device.kind == "real" else f"predicted for {device.name}"


def setting(config: dict[str, Any], *keys: str) -> Any:
    """Return a value of a result's config, None where there is none: a saved config may be of an older vram."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
