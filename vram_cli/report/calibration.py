"""A calibration as tables: what the catalogue says beside what was measured, and the runs that it was fitted from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from vram_cli.hardware.calibration import Calibration
from vram_cli.report.gpus import marked
from vram_cli.report.tables import names, numbers, pairs, ruled
from vram_cli.report.words import literal, number
from vram_cli.units import format_bytes

_LEGEND = (
    ("~", "assumed, not measured"),
    ("context", "outside PyTorch's allocator, all kernels of the runs loaded; a display's share is in it"),
    ("workspaces", "the most that a prediction lacked, beyond those that it knows of"),
    ("left over", "how far the predicted peak is off with these workspaces in it"),
)


def calibrations_as_json(calibrations: Sequence[Calibration]) -> str:
    """Return calibrations as one JSON object, each as it is exported."""
    return json.dumps({"calibrations": [found.model_dump(mode="json") for found in calibrations]}, indent=2)


def calibrations_in_full(calibrations: Sequence[Calibration]) -> RenderableType:
    """Return one after the other, or a line that says that there are none."""
    if not calibrations:
        return literal("No calibration is kept; `vram calibrate` on a machine with a GPU makes one.")
    drawn = [Padding(calibration_in_full(found), (int(index > 0), 0, 0, 0)) for index, found in enumerate(calibrations)]
    return Group(*drawn)


def calibration_in_full(calibration: Calibration) -> RenderableType:
    """Return the terms, the runs that they were fitted from, and the versions that they hold for."""
    versions = ", ".join(f"{name} {version}" for name, version in calibration.versions.items())
    lines = (*_LEGEND, ("versions", versions))
    return Group(
        literal(f"{calibration.product}, calibrated {calibration.measured_on}", "bold"),
        _terms(calibration),
        Padding(literal("Peak memory allocated in the runs that it was fitted from", "bold"), (1, 0, 0, 0)),
        _cases(calibration),
        Padding(pairs([(literal(name, "dim"), literal(text, "dim")) for name, text in lines]), (1, 0, 0, 0)),
    )


def _terms(calibration: Calibration) -> Table:
    gpu, workspaces = calibration.gpu, calibration.workspaces
    table = ruled(names(""), numbers("catalogue"), numbers("measured"))
    for name, before, measured in (
        ("memory", marked(gpu.memory), calibration.memory_bytes),
        ("context", marked(gpu.context), calibration.context_bytes),
        ("workspaces of matrix products", "-", workspaces.matrix_products),
        ("workspaces of convolutions", "-", workspaces.convolutions),
    ):
        table.add_row(name, before, format_bytes(measured))
    return table


def _cases(calibration: Calibration) -> Table:
    table = ruled(names("run"), numbers("batch"), numbers("predicted"), numbers("measured"), numbers("left over"))
    for case in calibration.cases:
        sizes = map(format_bytes, (case.predicted_allocated_bytes, case.measured_allocated_bytes))
        left = f"{100 * calibration.remaining_error(case):+.1f} %"
        table.add_row(literal(case.workload), number(case.batch_size), *sizes, left)
    return table
