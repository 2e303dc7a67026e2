"""Compare two files of trainings.py: a table in Markdown of the peaks that differ, and how many are how close.

python -m benchmarks.compare_trainings MEASURED.json PREDICTED.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.trainings import TRAININGS, Training
from vram_cli.units import MIB

CLASSES = (("exact", 0.0), ("within 0.1 %", 0.001), ("within 1 %", 0.01), ("larger", float("inf")))
PHASES = ("forward", "backward", "optimizer")

_RECURRENT = ("lstm", "gru", "rnn")
_CONVOLUTIONS = (
    "cnn", "resnet", "efficientnet", "mobilenet", "mnasnet", "regnet", "convnext_tiny", "densenet", "vgg", "alexnet",
    "shufflenet", "squeezenet", "maxvit", "timm efficientnetv2", "timm resnext", "timm convnextv2", "timm nfnet",
    "volumes", "waves",
)  # fmt: skip
NO_TENSOR_CORES = "convolutions in fp32"
KINDS = ("attention and linear layers", "convolutions on tensor cores", NO_TENSOR_CORES, "recurrent layers")


@dataclass(frozen=True)
class Pair:
    """The peaks of a training that ran in both files."""

    name: str
    kind: str
    measured: dict[str, Any]
    predicted: dict[str, Any]

    def error(self, counter: str) -> float:
        """Return the relative error of "allocated" or "reserved"."""
        return float(self.predicted[counter] / self.measured[counter] - 1)

    def difference(self, counter: str) -> int:
        """Return the error in bytes."""
        return int(self.predicted[counter] - self.measured[counter])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path)
    parser.add_argument("predicted", type=Path)
    options = parser.parse_args()
    measured, predicted = (json.loads(path.read_text(encoding="utf-8")) for path in vars(options).values())
    pairs, absent = compared(measured, predicted)
    print("\n".join([*summary(pairs), "", *rows(pairs), *not_compared(absent)]))


def kind_of(training: Training) -> str:
    """Return what most of a training's memory is for."""
    if training.name.startswith(_RECURRENT):
        return "recurrent layers"
    if training.name.startswith(_CONVOLUTIONS):
        return NO_TENSOR_CORES if training.precision == "fp32" else "convolutions on tensor cores"
    return "attention and linear layers"


def compared(measured: dict[str, Any], predicted: dict[str, Any]) -> tuple[list[Pair], dict[str, str]]:
    """Return the trainings that ran in both files, and why each other one is not compared."""
    pairs, absent = [], {}
    for training in TRAININGS:
        ours, theirs = (file.get(training.name, {}) for file in (predicted, measured))
        if problem := _problem(theirs, "measured") or _problem(ours, "predicted"):
            absent[training.name] = problem
        else:
            pairs.append(Pair(training.name, kind_of(training), theirs["peaks"], ours["peaks"]))
    return pairs, absent


def _problem(answer: dict[str, Any], verb: str) -> str:
    if "peaks" not in answer:
        return f"not {verb}: {answer['error']}" if "error" in answer else f"not {verb}"
    peaks = answer["peaks"]
    return "" if peaks["outcome"] == "fits" else f"not {verb}: {peaks['message'] or peaks['outcome']}"


def summary(pairs: list[Pair]) -> list[str]:
    """Return how many trainings of each kind are how close."""
    heads = [label for label, _ in CLASSES]
    lines = [
        f"| allocated | trainings | {' | '.join(heads)} | median | worst | reserved, median | worst |",
        "|---" + "|---:" * (len(heads) + 5) + "|",
    ]
    for kind in (*KINDS, "all"):
        chosen = [pair for pair in pairs if kind in {"all", pair.kind}]
        if not chosen:
            continue
        errors = {name: [abs(pair.error(name)) for pair in chosen] for name in ("allocated", "reserved")}
        counts = [str([_class_of(error) for error in errors["allocated"]].count(label)) for label in heads]
        worst = " | ".join(f"{median(sizes):.2%} | {max(sizes):.2%}" for sizes in errors.values())
        lines.append(f"| {kind} | {len(chosen)} | {' | '.join(counts)} | {worst} |")
    return lines


def _class_of(error: float) -> str:
    return next(label for label, limit in CLASSES if error <= limit)


def rows(pairs: list[Pair]) -> list[str]:
    """Return a line for each training, the furthest off first."""
    lines = [
        f"| training | allocated, MiB | error | bytes | reserved, MiB | error | MiB | {' | '.join(PHASES)} |",
        "|---" + "|---:" * (6 + len(PHASES)) + "|",
    ]
    for pair in sorted(pairs, key=lambda pair: -abs(pair.error("allocated"))):
        phases = " | ".join(_phase(pair, phase) for phase in PHASES)
        lines.append(
            f"| {pair.name} | {pair.measured['allocated'] / MIB:,.1f} | {pair.error('allocated'):+.2%} "
            f"| {pair.difference('allocated'):+,} | {pair.measured['reserved'] / MIB:,.0f} "
            f"| {pair.error('reserved'):+.2%} | {pair.difference('reserved') / MIB:+,.0f} | {phases} |"
        )
    return lines


def _phase(pair: Pair, phase: str) -> str:
    """Return the difference of a phase's allocated peak, in MiB."""
    both = [peaks["phases"].get(phase) for peaks in (pair.measured, pair.predicted)]
    return f"{(both[1][0] - both[0][0]) / MIB:+,.2f}" if all(both) else ""


def not_compared(absent: dict[str, str]) -> list[str]:
    """Return the trainings that one of the files lacks, and why."""
    if not absent:
        return []
    return ["", "Not compared:", "", *(f"- {name}: {' '.join(why.split())[:160]}" for name, why in absent.items())]


if __name__ == "__main__":
    main()
