"""Calibrations as a document: the catalogue's figures beside the measured ones, and the runs behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vram_cli.hardware.calibration import Calibration
from vram_cli.report import document as doc
from vram_cli.report.answers.gpus import marked
from vram_cli.report.words import number
from vram_cli.units import format_bytes

_LEGEND = (
    ("~", "assumed, not measured"),
    ("context", "outside PyTorch's allocator, with all kernels of the runs loaded and any display's share"),
    ("workspaces", "the most that predictions lacked beyond the workspaces they know"),
    ("left over", "error of the predicted peak with these workspaces included"),
)


def calibrations_document(calibrations: Sequence[Calibration]) -> doc.Document:
    """Return one calibration after the other, or a line that says that none is saved."""
    if not calibrations:
        return doc.Document(heading=("No calibrations saved:", "`vram calibrate` measures one on a machine with a GPU"))
    first, *others = calibrations
    rest = [doc.Details(_title(other), tuple(_blocks(other))) for other in others]
    return doc.Document(heading=(_title(first), ""), blocks=(*_blocks(first), *rest))


def _title(calibration: Calibration) -> str:
    return f"{calibration.card}, calibrated {calibration.measured_on}"


def _blocks(calibration: Calibration) -> Iterator[doc.Block]:
    gpu, workspaces = calibration.gpu, calibration.workspaces
    terms = (
        ("memory", marked(gpu.memory), calibration.memory_bytes),
        ("context", marked(gpu.context), calibration.context_bytes),
        ("workspaces of matrix products", "-", workspaces.matrix_products),
        ("workspaces of convolutions", "-", workspaces.convolutions),
    )
    columns = doc.Column("", "name"), doc.Column("catalogue"), doc.Column("measured")
    yield doc.Table("", columns, tuple(doc.Row((name, before, format_bytes(now))) for name, before, now in terms))
    yield doc.Table(
        "Peak memory allocated in the calibration runs",
        (doc.Column("run", "name"), *map(doc.Column, ("batch", "predicted", "measured", "left over"))),
        tuple(
            doc.Row(
                (
                    case.workload,
                    number(case.batch_size),
                    format_bytes(case.predicted_allocated_bytes),
                    format_bytes(case.measured_allocated_bytes),
                    f"{100 * calibration.remaining_error(case):+.1f} %",
                )
            )
            for case in calibration.cases
        ),
    )
    versions = ", ".join(f"{name} {version}" for name, version in calibration.versions.items())
    yield doc.Pairs((*_LEGEND, ("versions", versions)))
