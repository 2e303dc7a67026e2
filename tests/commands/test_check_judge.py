"""The gate: what is a finding and what is not, what made it grow, and which baselines answer the same question."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.examples import CPU, MEMORY
from tests.report.verdicts import BASELINE, LAYERS, NEW_LAYER, made, misfit
from vram_cli.commands.check.comparable import comparable_baseline, config_changes
from vram_cli.commands.check.judge import judge
from vram_cli.errors import ConfigError
from vram_cli.records import (
    OF_ONE_RANK,
    BreakdownResult,
    Category,
    CheckLimits,
    CheckResult,
    FindingKind,
    Phase,
    PhasePeak,
)
from vram_cli.units import GIB, MIB

SIZES = st.integers(1, 2**40)
TREES = st.dictionaries(
    st.sampled_from(["a", "b", "a.x", "a.y", "a.x.z"]),
    st.dictionaries(st.sampled_from(OF_ONE_RANK[:6]), st.integers(0, 10**9)),
).map(lambda own: {path: own.get(path, {}) for path in sorted({p for key in own for p in _with_outer(key)})})


def _with_outer(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def with_peak(reserved: int, allocated: int) -> BreakdownResult:
    peak = PhasePeak(phase=Phase.BACKWARD, reserved_bytes=reserved, allocated_bytes=allocated)
    return replace(BASELINE, measurement=replace(BASELINE.measurement, peaks=(peak,)))


def kinds(verdict: CheckResult) -> list[FindingKind]:
    return [finding.kind for finding in verdict.findings]


@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 1000))
def test_growth_above_the_tolerance(
    before: int, before_allocated: int, now: int, now_allocated: int, permille: int
) -> None:
    limits = CheckLimits(tolerance=float(Fraction(permille, 1000)))
    verdict = judge(with_peak(now, now_allocated), limits, with_peak(before, before_allocated))
    grown = {
        "reserved": (now - before) * 1000 > before * permille,
        "allocated": (now_allocated - before_allocated) * 1000 > before_allocated * permille,
    }
    expected = next((counter for counter, above in grown.items() if above), None)
    assert [finding.counter for finding in verdict.findings] == ([expected] if expected else [])
    assert verdict.passed is (expected is None)


@pytest.mark.parametrize("size", [100, 10**9 * 100])
def test_growth_equal_to_the_tolerance_passes(size: int) -> None:
    limits = CheckLimits(tolerance=0.29)  # 0.29 * 100 is 28.999999999999996
    assert judge(with_peak(size + size * 29 // 100, 1), limits, with_peak(size, 1)).passed
    assert not judge(with_peak(size + size * 29 // 100 + 1, 1), limits, with_peak(size, 1)).passed


@given(SIZES, SIZES)
def test_limit_is_inclusive(reserved: int, most: int) -> None:
    verdict = judge(with_peak(reserved, 1), CheckLimits(max_memory_bytes=most))
    assert verdict.passed is (reserved <= most)
    assert all(finding.excess_bytes == reserved - most for finding in verdict.findings)


@given(SIZES, SIZES, SIZES)
def test_findings_are_in_the_order_of_their_excess(before: int, now: int, most: int) -> None:
    found = judge(with_peak(now, 1), CheckLimits(max_memory_bytes=most), with_peak(before, 1)).findings
    assert [finding.excess_bytes for finding in found] == sorted((f.excess_bytes for f in found), reverse=True)
    assert all(finding.excess_bytes > 0 for finding in found)


def test_allocated_growth_is_a_finding() -> None:
    verdict = judge(with_peak(100 * MIB, 99 * MIB), CheckLimits(tolerance=0.02), with_peak(100 * MIB, 50 * MIB))
    assert [(finding.kind, finding.counter) for finding in verdict.findings] == [(FindingKind.GREW, "allocated")]


def test_new_module_counts_with_its_submodules() -> None:
    verdict = judge(NEW_LAYER, CheckLimits(tolerance=0.02), BASELINE)
    assert kinds(verdict) == [FindingKind.GREW]
    assert (verdict.rows[0].category, verdict.rows[0].growth) == (Category.ACTIVATIONS, 300 * MIB)
    first, last = verdict.modules[0], verdict.modules[-1]
    assert (first.path, first.new, first.growth) == ("layer1.1", True, 302 * MIB)
    assert (first.category, first.category_growth) == (Category.ACTIVATIONS, 300 * MIB)
    assert (last.path, last.new, last.growth, last.category) == ("fc", False, -1 * MIB, Category.PARAMETERS)
    assert len(verdict.modules) == 2


def test_removed_module_counts_with_its_submodules() -> None:
    gone = judge(BASELINE, CheckLimits(), NEW_LAYER).modules[-1]
    assert (gone.path, gone.bytes, gone.growth) == ("layer1.1", 0, -302 * MIB)


def test_growth_is_of_the_innermost_module() -> None:
    grown = made({**LAYERS, "layer1.0": {Category.ACTIVATIONS: 950 * MIB}})
    assert [change.path for change in judge(grown, CheckLimits(), BASELINE).modules] == ["layer1.0"]


@given(TREES, TREES)
def test_changes_add_up_to_the_growth(
    before: dict[str, dict[Category, int]], now: dict[str, dict[Category, int]]
) -> None:
    verdict = judge(made(now), CheckLimits(), made(before))
    assert verdict.peak is not None
    assert verdict.baseline_peak is not None
    assert sum(row.growth for row in verdict.rows) == verdict.peak.reserved_bytes - verdict.baseline_peak.reserved_bytes
    tensors = verdict.peak.allocated_bytes - verdict.baseline_peak.allocated_bytes
    assert sum(change.growth for change in verdict.modules) == tensors
    for changes in (verdict.rows, verdict.modules):
        assert [change.growth for change in changes] == sorted((c.growth for c in changes), reverse=True)
    assert {change.path for change in verdict.modules if change.new} <= set(now) - set(before)


def test_misfit_of_unknown_size_is_a_finding() -> None:
    verdict = judge(misfit(), CheckLimits(max_memory_bytes=1, tolerance=0.02), BASELINE)
    assert kinds(verdict) == [FindingKind.DOES_NOT_FIT]
    assert verdict.findings[0].excess_bytes == 28 * MIB
    assert verdict.peak is None


def test_predicted_misfit_is_compared() -> None:
    verdict = judge(misfit(NEW_LAYER.breakdown), CheckLimits(max_memory_bytes=1 * GIB, tolerance=0.02), BASELINE)
    assert kinds(verdict) == [FindingKind.DOES_NOT_FIT, FindingKind.GREW, FindingKind.ABOVE_LIMIT]
    assert verdict.modules[0].path == "layer1.1"


def test_smaller_peak_passes_with_a_remark() -> None:
    verdict = judge(BASELINE, CheckLimits(tolerance=0.02), NEW_LAYER)
    assert verdict.passed
    assert any("shrank" in remark and "--update-baseline" in remark for remark in verdict.remarks)
    assert not judge(BASELINE, CheckLimits(tolerance=0.02), BASELINE).remarks


def test_peak_in_another_phase_is_a_remark() -> None:
    assert BASELINE.breakdown is not None
    moved = replace(BASELINE, breakdown=replace(BASELINE.breakdown, peak_phase=Phase.OPTIMIZER))
    assert any(
        "backward" in remark and "optimizer" in remark for remark in judge(moved, CheckLimits(), BASELINE).remarks
    )


CONFIG: dict[str, Any] = {
    "model": {"factory": "net:Net", "kwargs": {"depth": 2}},
    "data": {"name": "synthetic", "shape": [3, 32, 32], "root": "data"},
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0},
    "precision": "fp32",
    "train": {"batch_size": 128, "learning_rate": 0.1, "activation_checkpointing": "none"},
    "search": {"steps": 3, "margin": 0.05},
    "device": {"name": "auto", "gpu": "t4", "memory_limit": None},
}


def answer(key: str = "", value: Any = None) -> BreakdownResult:
    """Return a result whose config differs in one key."""
    config: dict[str, Any] = {name: dict(v) if isinstance(v, dict) else v for name, v in CONFIG.items()}
    section, _, rest = key.partition(".")
    if rest:
        config[section][rest] = value
    elif key:
        config[key] = value
    return replace(BASELINE, run=replace(BASELINE.run, config=config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.batch_size", 64),
        ("model.factory", "net:Other"),
        ("data.name", "mnist"),
        ("optimizer.name", "adam"),
        ("optimizer.momentum", 0.0),
        ("optimizer.weight_decay", 0.1),
        ("precision", "amp-bf16"),
        ("train.activation_checkpointing", "full"),
        ("search.steps", 5),
        ("device.memory_limit", 8 * GIB),
        ("loss", {"factory": "net:loss", "kwargs": {}}),
    ],
)
def test_refused_keys(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"base\.json is not comparable: {key}.* was .*, is ") as caught:
        comparable_baseline(answer(key, value).run, 128, answer(), "base.json")
    assert "--update-baseline" in caught.value.hint


def test_a_baseline_of_another_engine_is_refused() -> None:
    fake, virtual = (
        replace(BASELINE.run, device=replace(BASELINE.run.device, kind="simulated", engine=engine))
        for engine in ("fake-tensors", "virtual-gpu")
    )
    with pytest.raises(ConfigError, match="it was predicted by fake-tensors, this run is by virtual-gpu"):
        comparable_baseline(virtual, 128, replace(BASELINE, run=fake), "base.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.learning_rate", 0.2),
        ("optimizer.momentum", 0.95),
        ("data.root", "/elsewhere"),
        ("search.margin", 0.1),
        ("device.name", "cuda:1"),
        ("device.gpu", "tesla t4"),
    ],
)
def test_irrelevant_keys_are_not_compared(key: str, value: Any) -> None:
    comparable_baseline(answer(key, value).run, 128, answer(), "base.json")
    assert config_changes(answer(key, value).run, answer().run) == ()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.kwargs", {"depth": 3}, "model.kwargs.depth was 2, is 3"),
        ("model.kwargs", {}, "model.kwargs.depth was 2, is null"),
        ("data.shape", [3, 64, 64], "data.shape was [3, 32, 32], is [3, 64, 64]"),
    ],
)
def test_changed_sizes_are_a_remark(key: str, value: Any, words: str) -> None:
    comparable_baseline(answer(key, value).run, 128, answer(), "base.json")
    assert words in judge(answer(key, value), CheckLimits(), answer()).remarks[0]


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (
            replace(answer(), run=replace(answer().run, versions={**BASELINE.run.versions, "vram": "0.0.9"})),
            "vram was 0.0.9, is 0.1.0",
        ),
        (
            replace(answer(), run=replace(answer().run, versions={**BASELINE.run.versions, "torch": "2.13.0"})),
            "torch was 2.13, is 2.14",
        ),
        (replace(answer(), run=replace(answer().run, versions={})), "vram was unknown"),
        (
            replace(answer(), run=replace(answer().run, device=replace(BASELINE.run.device, name="Tesla T4"))),
            "it ran on Tesla T4",
        ),
        (
            replace(answer(), run=replace(answer().run, device=replace(BASELINE.run.device, kind="simulated"))),
            "it was predicted, this run is measured",
        ),
        (
            replace(
                answer(),
                run=replace(answer().run, device=replace(BASELINE.run.device, capacity_bytes=16 * GIB)),
            ),
            "the device had 16.0 GiB",
        ),
    ],
)
def test_another_version_or_device_is_refused(baseline: BreakdownResult, words: str) -> None:
    with pytest.raises(ConfigError, match="not comparable") as caught:
        comparable_baseline(answer().run, 128, baseline, "base.json")
    assert words in caught.value.message


def refusal(now: BreakdownResult, then: BreakdownResult) -> str:
    try:
        comparable_baseline(now.run, 128, then, "base.json")
    except ConfigError as error:
        return error.message
    return ""


def test_patch_versions_drivers_and_free_ram_may_differ() -> None:
    versions = {**BASELINE.run.versions, "torch": "2.14.0+cpu", "driver": "1"}
    device = replace(BASELINE.run.device, capacity_bytes=BASELINE.run.device.capacity_bytes - 30 * MIB)
    less = replace(answer(), run=replace(answer().run, device=replace(CPU, capacity_bytes=GIB // 2)))
    assert refusal(answer(), replace(answer(), run=replace(answer().run, versions=versions, device=device))) == ""
    assert refusal(replace(answer(), run=replace(answer().run, device=CPU)), less) == ""


def test_misfit_is_no_baseline() -> None:
    with pytest.raises(ConfigError, match="did not fit"):
        comparable_baseline(BASELINE.run, 128, misfit(), "base.json")


def test_search_is_a_baseline_for_the_sizes_it_ran() -> None:
    train = {**MEMORY.run.config, "train": {"batch_size": 1536}}
    now = replace(MEMORY.run, config=train)
    baseline = comparable_baseline(now, 1536, MEMORY, "run.json")
    assert baseline.measurement.batch_size == 1536
    assert baseline.breakdown == MEMORY.breakdown
    assert (
        comparable_baseline(
            replace(now, config={**train, "train": {"batch_size": 1456}}), 1456, MEMORY, "run.json"
        ).breakdown
        is None
    )
    for size in (1600, 3):
        with pytest.raises(ConfigError, match=f"no trial of batch size {size:,} that fits"):
            comparable_baseline(now, size, MEMORY, "run.json")
