"""The wording of single things: categories, outcomes, counts, times; and text from users made harmless."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from vram_cli.records import Category, Device, Measurement, Outcome, Phase, RunInfo
from vram_cli.units import format_bytes

CATEGORY_LABELS = {
    Category.PARAMETERS: "parameters",
    Category.GATHERED_PARAMETERS: "gathered parameters",
    Category.GRADIENTS: "gradients",
    Category.GRADIENT_BUCKETS: "gradient buckets",
    Category.REDUCE_SCATTER_BUFFERS: "reduce-scatter buffers",
    Category.OPTIMIZER_STATE: "optimizer state",
    Category.BATCH_DATA: "batch data",
    Category.KEPT: "kept by the script",
    Category.ACTIVATIONS: "activations",
    Category.TEMPORARIES: "temporaries",
    Category.WORKSPACES: "workspaces of kernels",
    Category.ALLOCATOR_SLACK: "allocator slack",
    Category.COMMUNICATION: "communication (NCCL)",
    Category.CONTEXT: "context and other processes",
    Category.FREE: "free",
}

ENGINES = {
    "virtual-gpu": "predicted by PyTorch's CUDA code without a GPU",
    "fake-tensors": "predicted with fake tensors and a model of PyTorch's allocator",
}
"""How each engine of `Device.engine` predicts."""

OUTCOME_LABELS = {
    Outcome.FITS: "fits",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.KERNEL_LIMIT: "kernel limit",
    Outcome.ENDED: "ended early",
    Outcome.HOST_MEMORY: "host memory",
    Outcome.KILLED: "killed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.ERROR: "error",
}

_VERBS = {
    Outcome.FITS: "ran to the end",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
    Outcome.KERNEL_LIMIT: "was refused by a kernel",
    Outcome.ENDED: "ended by itself",
    Outcome.HOST_MEMORY: "was about to exhaust this computer's RAM",
    Outcome.KILLED: "was killed",
    Outcome.TIMED_OUT: "exceeded its time limit",
    Outcome.ERROR: "raised an error",
}

_PLACES = {
    Phase.BUILD: "while building the model",
    Phase.BATCH: "while loading the batch",
    Phase.FORWARD: "in forward",
    Phase.BACKWARD: "in backward",
    Phase.OPTIMIZER: "in the optimizer step",
    Phase.VALIDATION: "in validation",
}


def literal(text: str, style: str = "") -> Text:
    """Return text without markup, its control characters spelled out: it may come from a user."""
    return Text(spelled(text), style)


def spelled(text: str) -> str:
    """Return the text with control and other invisible characters spelled out: "\\x1b"."""
    return "".join(char if char.isprintable() or char in "\n\t" else _spelled(char) for char in text)


def spelled_line(text: str) -> str:
    """Return the text with invisible characters and line breaks spelled out: a name must not forge a line of output."""
    return spelled(text).replace("\n", "\\n")


def one_line(text: str, limit: int = 160) -> str:
    """Return the text on one line, cut at `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def shortened(text: str, limit: int) -> str:
    """Return the text without its middle if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {number(len(text) - 2 * half)} characters ...] {text[-half:]}"


def number(value: int) -> str:
    """Return "1,536"."""
    return f"{value:,}"


def count(value: int, singular: str, plural: str = "") -> str:
    """Return "1 trial" or "1,200 trials"; `plural` is for words that do not form it with s."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def place(phase: Phase | None) -> str:
    """Return the phase as a place, such as "in backward"; "" if it is not known."""
    return "" if phase is None else _PLACES[phase]


def ended(outcome: Outcome, phase: Phase | None, rank: int | None = None) -> str:
    """Return an outcome as a predicate: "ran out of memory in backward", or "... on rank 1"."""
    return f"{_VERBS[outcome]} {place(phase)}".rstrip() + on_rank(rank)


def on_rank(rank: int | None) -> str:
    """Return " on rank 1"; "" if no several ranks ran."""
    return "" if rank is None else f" on rank {number(rank)}"


def outcome_label(trial: Measurement) -> str:
    """Return an outcome as a label: "fits", "fits, but thrashes", "out of memory in backward"."""
    if trial.thrashing:
        return "fits, but thrashes"
    label = f"{OUTCOME_LABELS[trial.outcome]} {place(trial.phase)}".rstrip()
    return label if trial.fits else label + on_rank(trial.rank)


def used_of(used: int, total: int) -> str:
    """Return "10.8 of 12.0 GiB", or "812 MiB of 2.00 GiB" if the units differ."""
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
    """Return a measured figure with three significant digits: "0.123", "4.56", "78.9", "12,300"."""
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
    """Return the origin of the figures: "measured", or "predicted for" a GPU on which no step ran."""
    return f"predicted for {device.name}" if device.is_simulated else "measured"


def two_digits(value: float) -> int:
    """Return a whole number cut to two significant digits: 311,482 is 310,000."""
    whole = max(1, round(value))
    unit: int = 10 ** max(len(str(whole)) - 2, 0)
    return whole // unit * unit


def setting(run: RunInfo, key: str) -> Any:
    """Return the value of a config key such as "device.gpu"; None if the config does not have it."""
    value: Any = run.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
