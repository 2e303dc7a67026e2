"""Measure trainings on every ground: real steps on the CPU, fake tensors, and the virtual GPU.

Run as a module, with the library of the virtual GPU preloaded, this prints the measurements of `TRAININGS` as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from vram_cli.config import Config
from vram_cli.errors import VramError
from vram_cli.probe.messages import RunTrial, WarmUpLeft
from vram_cli.probe.worker.trials import open_trials
from vram_cli.records import Detail, Measurement

HERE = "tests.trainings.steps:"
N = 48
REAL, FAKE, VIRTUAL = "real", "fake", "virtual"
DEVICES: dict[str, dict[str, Any]] = {
    REAL: {"name": "cpu"},
    FAKE: {"gpu": "t4", "engine": "fake-tensors"},
    VIRTUAL: {"gpu": "t4"},
}

PLAIN: dict[str, Any] = {
    "model": {"factory": HERE + "Net"},
    "data": {"inputs": {"x": {"shape": [8]}}, "targets": {"shape": [], "dtype": "int64", "high": 2}},
    "optimizer": {"name": "sgd"},
}

Result = Measurement | str
"""What was measured, or the message of the error that refused it."""

_RECORDS = TypeAdapter(dict[str, Measurement | str])


def measure(sections: dict[str, Any], ground: str, n: int = N) -> Result:
    """Measure a training with a breakdown by module."""
    try:
        trials = open_trials(config_of(sections, ground), download=False, virtual=ground == VIRTUAL)
        trial = RunTrial(batch_size=sections.get("n", n), detail=Detail.MODULES)
        done = trials.run(trial, lambda _: None)
    except VramError as error:
        return error.message
    return "the warm-up left tensors" if isinstance(done, WarmUpLeft) else done.measurement


def config_of(sections: dict[str, Any], ground: str) -> Config:
    """Return the config of a training on a ground; `n` is no section."""
    sections = {name: section for name, section in sections.items() if name != "n"}
    return Config.model_validate({**PLAIN, **sections, "device": DEVICES[ground]})


def print_virtual(trainings: dict[str, dict[str, Any]]) -> None:
    """Print the measurements of trainings on the virtual GPU."""
    sys.stdout.write(
        _RECORDS.dump_json({name: measure(sections, VIRTUAL) for name, sections in trainings.items()}).decode()
    )
    sys.stdout.write("\n")


def read_virtual(output: Any) -> dict[str, Result]:
    """Return what `print_virtual` printed."""
    return _RECORDS.validate_json(json.dumps(output))
