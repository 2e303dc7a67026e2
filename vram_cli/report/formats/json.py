"""JSON: a record as one object, with a few figures that follow from others and are useful to readers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import Any

from vram_cli.hardware.calibration import Calibration
from vram_cli.hardware.gpus import Gpu
from vram_cli.records import (
    CheckResult,
    ErrorReport,
    Finding,
    Inspection,
    Measurement,
)
from vram_cli.report.answers.check import finding_words
from vram_cli.virtual_gpu.cudnn_device import cudnn_device

_DERIVED: dict[type, tuple[str, ...]] = {
    Measurement: ("peak_allocated_bytes", "peak_reserved_bytes"),
    Finding: ("excess_bytes",),
    CheckResult: ("passed",),
}
"""Properties that are written beside the fields of a record."""


def to_json(record: Any) -> str:
    """Return a record as one JSON object, in ASCII, so that every terminal and pipe can take it.

    The answer of `vram check` has each finding in words and no timeline, that of `vram inspect` no pixels.
    """
    document = {"schema_version": record.schema_version} | _plain(record)
    if isinstance(record, CheckResult):
        for written, finding in zip(document["findings"], record.findings, strict=True):
            written["message"] = finding_words(record, finding)
        if document["result"]["breakdown"]:
            document["result"]["breakdown"]["timeline"] = None
    if isinstance(record, Inspection):
        del document["samples"]
    return json.dumps(document, indent=2)


def error_to_json(report: ErrorReport) -> str:
    """Return the object that stands for an answer which there is not."""
    return json.dumps({"error": asdict(report)}, indent=2)


def gpus_to_json(gpus: Sequence[Gpu]) -> str:
    """Return GPUs with all figures, their sources and cuDNN's JSON of each as one JSON object; sizes are in bytes."""
    dumped = [gpu.model_dump(mode="json") for gpu in gpus]
    for entry, gpu in zip(dumped, gpus, strict=True):
        entry["cudnn_device"] = cudnn_device(gpu, gpu.memory_bytes) if gpu.properties else None
    return json.dumps({"gpus": dumped}, indent=2)


def calibrations_to_json(calibrations: Sequence[Calibration]) -> str:
    """Return calibrations as one JSON object, each as it is exported."""
    dumped = [calibration.model_dump(mode="json") for calibration in calibrations]
    return json.dumps({"calibrations": dumped}, indent=2)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: records become objects, tuples lists, enums their values."""
    if is_dataclass(value):
        names = [*(field.name for field in fields(value)), *_DERIVED.get(type(value), ())]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
