"""Calibrations with invented figures, as if they had been measured."""

from __future__ import annotations

from datetime import date
from typing import Any

from vram_cli.hardware.calibration import Calibration, Case, fit
from vram_cli.hardware.gpus import find_gpu
from vram_cli.units import MIB

TORCH = "2.14.1+cu130"


def case(shortfall_mib: int, *, convolutions: bool = False, outside_mib: int = 300, **fields: Any) -> Case:
    """A run of 500 MiB whose prediction lacks `shortfall_mib`."""
    return Case(
        **{
            "workload": "resnet18, fp32" if convolutions else "mlp, fp32",
            "batch_size": 64,
            "convolutions": convolutions,
            "predicted_allocated_bytes": (500 - shortfall_mib) * MIB,
            "measured_allocated_bytes": 500 * MIB,
            "predicted_reserved_bytes": 520 * MIB,
            "measured_reserved_bytes": 560 * MIB,
            "outside_bytes": outside_mib * MIB,
            **fields,
        }
    )


CASES = (
    case(8, outside_mib=240, batch_size=4096),
    case(6, outside_mib=240, batch_size=12288),
    case(30, convolutions=True, batch_size=64),
    case(40, convolutions=True, batch_size=192),
    case(-2, convolutions=True, workload="resnet18, amp-fp16", batch_size=384),
)


def calibration(name: str = "t4", cases: tuple[Case, ...] = CASES, torch: str = TORCH, **fields: Any) -> Calibration:
    gpu = find_gpu(name)
    context, workspaces = fit(cases)
    return Calibration(
        **{
            "schema_version": 1,
            "product": gpu.product,
            "memory_bytes": gpu.memory_bytes - 100 * MIB,
            "measured_on": date(2026, 11, 24),
            "versions": {"vram": "0.1.0", "torch": torch, "cuda": "13.0", "driver": "580.82.07"},
            "context_bytes": context,
            "workspaces": workspaces,
            "cases": cases,
            **fields,
        }
    )
