"""Fitted terms cover every run, and are no larger than the worst run needs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.calibrations import CASES, TORCH, calibration, case
from vram_cli.hardware.calibration import NO_ALLOWANCES, Allowances, Calibration, Case, fit
from vram_cli.hardware.gpus import find_gpu
from vram_cli.units import MIB

BYTES = st.integers(0, 2**40)
PEAKS = st.integers(1, 2**40)
SOME_CASES = st.lists(
    st.builds(
        Case,
        workload=st.sampled_from(["mlp", "resnet18"]),
        batch_size=st.integers(1, 2**20),
        convolutions=st.booleans(),
        predicted_allocated_bytes=PEAKS,
        measured_allocated_bytes=PEAKS,
        predicted_reserved_bytes=BYTES,
        measured_reserved_bytes=BYTES,
        outside_bytes=BYTES,
    ),
    min_size=1,
    max_size=8,
)


def test_terms_are_the_worst_case_of_each_kind() -> None:
    context, workspaces = fit(CASES)
    assert context == 300 * MIB
    assert workspaces == Allowances(matrix_products=8 * MIB, convolutions=40 * MIB)


def test_no_allowance_without_a_shortfall() -> None:
    assert fit([case(-5), case(0, convolutions=True)]) == (300 * MIB, NO_ALLOWANCES)


def test_fit_without_cases_raises() -> None:
    with pytest.raises(ValueError, match="no cases"):
        fit([])


@given(SOME_CASES)
def test_allowances_cover_every_case_and_are_minimal(cases: list[Case]) -> None:
    context, workspaces = fit(cases)
    assert all(case.outside_bytes <= context for case in cases)
    remaining = [case.shortfall_bytes - workspaces.for_model(convolutions=case.convolutions) for case in cases]
    assert max(remaining) <= 0
    for kind, allowance in ((False, workspaces.matrix_products), (True, workspaces.convolutions)):
        assert allowance == 0 or any(case.shortfall_bytes == allowance for case in cases if case.convolutions is kind)


@given(SOME_CASES, SOME_CASES, st.randoms(use_true_random=False))
def test_more_cases_never_lower_a_term_in_any_order(cases: list[Case], others: list[Case], rng: random.Random) -> None:
    (context, some), (more_context, more) = fit(cases), fit(cases + others)
    assert more_context >= context
    assert more.matrix_products >= some.matrix_products
    assert more.convolutions >= some.convolutions
    shuffled = cases + others
    rng.shuffle(shuffled)
    assert fit(shuffled) == (more_context, more)


def test_the_larger_allowance_counts() -> None:
    workspaces = Allowances(matrix_products=30, convolutions=20)
    assert workspaces.for_model(convolutions=True) == 30
    assert Allowances(matrix_products=30, convolutions=50).for_model(convolutions=True) == 50
    assert Allowances(matrix_products=30, convolutions=50).for_model(convolutions=False) == 30


def test_remaining_error_includes_the_allowance() -> None:
    errors = [calibration().remaining_error(case) for case in CASES]
    assert errors == pytest.approx([0, 2 / 500, 10 / 500, 0, 42 / 500])
    assert "off by at most 8.4 %" in calibration().describe((2, 14), has_overhead=False)


def test_apply_to_replaces_the_catalogue_figures() -> None:
    gpu = find_gpu("t4")
    calibrated = calibration().apply_to(gpu)
    assert (calibrated.memory_bytes, calibrated.context_bytes) == (gpu.memory_bytes - 100 * MIB, 300 * MIB)
    assert calibrated.context.status == "measured"
    assert "2026-11-24" in calibrated.context.source
    assert calibrated.multiprocessors == gpu.multiprocessors


@pytest.mark.parametrize(
    ("version", "has_overhead", "start"),
    [
        ((2, 14), False, "context and workspaces calibrated on this GPU model on 2026-11-24, torch 2.14.1+cu130"),
        ((2, 14), True, "workspaces calibrated on this GPU model"),
        ((2, 15), False, "context calibrated on this GPU model"),
        ((2, 15), True, ""),
    ],
)
def test_another_pytorch_takes_only_the_context(version: tuple[int, int], has_overhead: bool, start: str) -> None:
    t4 = calibration()
    text = t4.describe(version, has_overhead=has_overhead)
    assert text.startswith(start)
    assert bool(text) == bool(start)
    same = version == (2, 14)
    assert t4.allowances_for(version) == (t4.workspaces if same else NO_ALLOWANCES)
    assert ("differ in torch 2.15" in text) == (not same and not has_overhead)


@pytest.mark.parametrize("torch", ["2.14.1", "2.14.0a0+git5b8f1", TORCH])
def test_torch_version_of_any_build(torch: str) -> None:
    assert calibration(torch=torch).torch_version == (2, 14)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"context_bytes": 2**40}, "leaves nothing"),
        ({"context_bytes": -1}, "context_bytes"),
        ({"versions": {"vram": "0.1.0"}}, "versions.torch"),
        ({"versions": {"torch": "nightly"}}, "versions.torch"),
        ({"cases": ()}, "cases"),
        ({"schema_version": 2}, "schema_version"),
        ({"bandwidth": 320}, "bandwidth"),
    ],
)
def test_invalid_fields_raise(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Calibration(**calibration().model_dump() | fields)
