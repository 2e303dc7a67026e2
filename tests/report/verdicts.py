"""Verdicts of the kinds that a reader meets."""

from __future__ import annotations

from dataclasses import replace

from vram_cli.commands.check.judge import judge
from vram_cli.records import (
    OF_ONE_RANK,
    Breakdown,
    BreakdownResult,
    Category,
    CheckLimits,
    CheckResult,
    ModuleShare,
    Phase,
    PhasePeak,
)
from vram_cli.units import GIB, MIB

from .examples import BREAKDOWN, GPU, breakdown, failed, ran

LAYERS = {"layer1": {}, "layer1.0": {Category.ACTIVATIONS: 900 * MIB}, "fc": {Category.PARAMETERS: 8 * MIB}}
DEVICE = replace(GPU, capacity_bytes=24 * GIB, other_processes=())


def modules(own: dict[str, dict[Category, int]]) -> tuple[ModuleShare, ...]:
    """Return the shares of modules that hold what `own` says beside their parts; "" may be left out."""
    own = {"": {}, **own}
    made = []
    for path in own:
        inside = [held for other, held in own.items() if path in ("", other) or other.startswith(f"{path}.")]
        held = {category: sum(part.get(category, 0) for part in inside) for category in Category}
        held = {category: size for category, size in held.items() if size}
        made.append(ModuleShare(path=path, bytes=sum(held.values()), by_category=held))
    return tuple(made)


def made(own: dict[str, dict[Category, int]], slack: int = 20 * MIB) -> BreakdownResult:
    """Return a breakdown of a model whose modules hold what `own` says beside their parts."""
    shares = modules(own)
    sizes = [shares[0].by_category.get(category, 0) for category in OF_ONE_RANK[:6]]
    explained = replace(breakdown(128, DEVICE, *sizes, slack, 400 * MIB), modules=shares)
    peak = PhasePeak(
        phase=Phase.BACKWARD, allocated_bytes=explained.tensor_bytes, reserved_bytes=explained.tensor_bytes + slack
    )
    trial = replace(ran(128), peaks=(peak,))
    return replace(BREAKDOWN, run=replace(BREAKDOWN.run, device=DEVICE), measurement=trial, breakdown=explained)


BASELINE = made(LAYERS)
NEW_LAYER = made(
    {
        **LAYERS,
        "layer1.1": {},
        "layer1.1.conv": {Category.ACTIVATIONS: 250 * MIB, Category.PARAMETERS: 2 * MIB},
        "layer1.1.a_norm_with_a_name_that_is_long": {Category.ACTIVATIONS: 50 * MIB},
        "fc": {Category.PARAMETERS: 7 * MIB},
    }
)


def misfit(explained: Breakdown | None = None) -> BreakdownResult:
    return replace(
        BREAKDOWN,
        run=replace(BREAKDOWN.run, device=DEVICE),
        measurement=failed(128),
        breakdown=explained,
        shortfall_bytes=28 * MIB,
    )


def verdicts() -> dict[str, CheckResult]:
    two = CheckLimits(max_memory_bytes=2 * GIB, tolerance=0.02)
    same = replace(
        NEW_LAYER,
        run=replace(NEW_LAYER.run, config={**BASELINE.run.config, "model": {"name": "resnet50", "hidden": 256}}),
    )
    return {
        "passes": judge(made({**LAYERS, "fc": {Category.PARAMETERS: 9 * MIB}}), two, BASELINE, "vram-baseline.json"),
        "grew": judge(same, two, BASELINE, "vram-baseline.json"),
        "above": judge(NEW_LAYER, CheckLimits(max_memory_bytes=1 * GIB)),
        "misfit": judge(misfit(), two, BASELINE, "vram-baseline.json"),
        "shrank": judge(BASELINE, two, NEW_LAYER, "vram-baseline.json"),
    }
