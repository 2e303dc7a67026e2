"""The answer of `vram find-batch` and `vram breakdown`, with what it stood on."""

from __future__ import annotations

from dataclasses import dataclass, field

from vram_cli.records.breakdown import Breakdown
from vram_cli.records.enums import SCHEMA_VERSION, Limit
from vram_cli.records.measurement import Certificate, Measurement
from vram_cli.records.run_info import RunInfo
from vram_cli.records.throughput import Throughput


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer of a command: saved by `--save`, printed by `--json`, drawn again by `vram show`."""

    command: str
    """"find-batch" or "breakdown"."""
    run: RunInfo
    trials: tuple[Measurement, ...]
    max_batch_size: int | None = None
    recommended_batch_size: int | None = None
    limited_by: Limit | None = None
    certificate: Certificate | None = None
    extrapolated_batch_size: int | None = None
    shortfall_bytes: int | None = None
    """Where nothing fits: what the smallest batch was short of, at least, when it failed."""
    breakdown: Breakdown | None = None
    throughput: Throughput | None = None
    """How fast sizes up to the largest train; only where `search.objective` asks for it, and something was timed."""
    interrupted: bool = False
    """Whether Ctrl-C ended it early: the figures are then what was known by then."""
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)
