"""The results of `benchmarks.predicted`: rows, errors, and the files they are written to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median, quantiles

from vram_cli.records import Device, Measurement
from vram_cli.units import format_bytes


@dataclass(frozen=True)
class Peak:
    """The highest memory of one batch size, measured and predicted, in bytes."""

    batch_size: int
    measured_allocated: int
    predicted_allocated: int
    measured_reserved: int
    predicted_reserved: int

    @classmethod
    def of(cls, real: Measurement, fake: Measurement) -> Peak:
        return cls(
            batch_size=real.batch_size,
            measured_allocated=real.peak_allocated_bytes,
            predicted_allocated=fake.peak_allocated_bytes,
            measured_reserved=real.peak_reserved_bytes,
            predicted_reserved=fake.peak_reserved_bytes,
        )

    @property
    def allocated_error(self) -> float:
        return self.predicted_allocated / self.measured_allocated - 1

    @property
    def reserved_error(self) -> float:
        return self.predicted_reserved / self.measured_reserved - 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case on the whole GPU, or under a memory limit."""

    case: str
    memory_limit_bytes: int | None
    overrides: tuple[str, ...]
    """Overrides of the bundled config, as `--set` takes them."""
    capacity_bytes: int = 0
    exact: int | None = None
    """The largest batch that ran while the next one ran out of memory; None if there is no such size."""
    predicted: int | None = None
    measured_context: int | None = None
    """Bytes outside PyTorch's allocator at the end."""
    predicted_context: int | None = None
    peaks: tuple[Peak, ...] = ()
    """Peaks of the sizes that ran and are predicted to run."""
    seconds: float = 0.0
    problem: str = ""

    @property
    def error(self) -> float | None:
        """The error of the predicted maximum; None if one of the two is unknown."""
        return None if self.exact is None or self.problem else (self.predicted or 0) / self.exact - 1


@dataclass(frozen=True)
class Report:
    """All rows, the GPU and the versions."""

    device: Device
    versions: dict[str, str]
    gpu: str
    """Name of the GPU in the catalogue."""
    rows: tuple[Row, ...]
    left: int
    """Number of rows that were not measured for lack of time."""
    seconds: float

    def summary(self) -> list[str]:
        """Return one line per kind of error, and one on the missing rows."""
        peaks = [peak for row in self.rows for peak in row.peaks]
        problems = sum(bool(row.problem) for row in self.rows)
        largest = [row.error for row in self.rows if row.error is not None]
        return [
            summarize("allocated peak", (peak.allocated_error for peak in peaks)),
            summarize("reserved peak", (peak.reserved_error for peak in peaks)),
            summarize("largest batch", largest) + f"; exact in {largest.count(0.0)}",
            f"{problems} of {len(self.rows)} rows have a problem; {self.left} more were not measured for lack of time",
        ]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write Markdown and JSON files named after date and GPU, without overwriting any."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{date.today().isoformat()}-predicted-{self.gpu}"
        files = next(pair for pair in _names(folder, stem) if not any(path.exists() for path in pair))
        for path, text in zip(files, (self.markdown(), self.json()), strict=True):
            path.write_text(text, encoding="utf-8")
        return files

    def json(self) -> str:
        """Return everything, including errors."""
        rows = [asdict(row) | {"error": row.error} for row in self.rows]
        gpu = {"name": self.device.name, "capacity_bytes": self.device.capacity_bytes, "catalogue": self.gpu}
        head = {"date": date.today().isoformat(), "gpu": gpu, "versions": self.versions, "summary": self.summary()}
        return json.dumps({**head, "left": self.left, "seconds": round(self.seconds), "rows": rows}, indent=1) + "\n"

    def markdown(self) -> str:
        """Return the errors and a table of all rows."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        gpu = f"{format_bytes(self.device.capacity_bytes)}, predicted as {self.gpu}, without calibration"
        head = ("case", "GPU", "largest batch", "predicted", "error", "reserved peak at", "measured", "predicted")
        return (
            "\n".join(
                [
                    f"# Predicted against measured on {self.device.name}",
                    "",
                    f"{date.today().isoformat()}, {gpu}. {versions}.",
                    "`python -m benchmarks.predicted`; every trial of every row is in the JSON file beside this one.",
                    "",
                    *(f"- {line}" for line in self.summary()),
                    "",
                    f"| {' | '.join(head)} |",
                    "|---|---" + "|---:" * (len(head) - 2) + "|",
                    *(f"| {' | '.join(_cells(row))} |" for row in self.rows),
                    "",
                    *(f"- {row.case}, {_limit_in_words(row)}: {row.problem}" for row in self.rows if row.problem),
                ]
            ).rstrip()
            + "\n"
        )


def summarize(quantity: str, errors: Iterable[float]) -> str:
    """Return the median, the 90th percentile and the worst of the absolute errors."""
    sizes = sorted(map(abs, errors))
    if not sizes:
        return f"{quantity}: nothing to compare"
    p90 = quantiles(sizes, n=10, method="inclusive")[-1] if len(sizes) > 1 else sizes[0]
    return f"{quantity}: median {median(sizes):.2%}, p90 {p90:.2%}, worst {sizes[-1]:.2%}, of {len(sizes)}"


def _names(folder: Path, stem: str) -> Iterator[tuple[Path, Path]]:
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        yield folder / f"{name}.md", folder / f"{name}.json"
        number += 1


def _cells(row: Row) -> tuple[str, ...]:
    error = "" if row.error is None else f"{row.error:+.1%}"
    maximum = (f"{row.exact:,}" if row.exact else "?", f"{row.predicted:,}" if row.predicted else "?", error)
    if not row.peaks:
        return (row.case, _limit_in_words(row), *maximum, "", "", "")
    last = row.peaks[-1]
    reserved = (
        format_bytes(last.measured_reserved),
        f"{format_bytes(last.predicted_reserved)} ({last.reserved_error:+.1%})",
    )
    return (row.case, _limit_in_words(row), *maximum, f"{last.batch_size:,}", *reserved)


def _limit_in_words(row: Row) -> str:
    return format_bytes(row.memory_limit_bytes) if row.memory_limit_bytes else "whole"
