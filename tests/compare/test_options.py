"""Options of `vram compare`: parsing, validation and the resulting plan."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.options import FULL, CompareOptions, parse_sizes
from vram_cli.errors import ConfigError


def test_parse_sizes() -> None:
    assert parse_sizes("1, 32,full") == (1, 32, FULL)


@pytest.mark.parametrize("text", ["1,two", "-4", "1.5", "Full", "²", "9" * 30])
def test_parse_sizes_names_the_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--batch-sizes"):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"samples": 1}, "--samples"),
        ({"epochs": 0}, "--epochs"),
        ({"repeats": 0}, "--repeats"),
        ({"folds": 0}, "--folds"),
        ({"folds": 50}, "--samples"),
        ({"holdout": 0.0}, "--holdout"),
        ({"holdout": 1.0}, "--holdout"),
        ({"warmup": -1.0}, "--warmup"),
        ({"warmup": math.nan}, "--warmup"),
        ({"warmup": math.inf}, "--warmup"),
        ({"seed": 10**23}, "--seed"),
        ({"epochs": 10**20}, "--epochs"),
        ({"repeats": 10**20}, "--repeats"),
        ({"batch_sizes": ()}, "--batch-sizes"),
        ({"batch_sizes": (0,)}, "--batch-sizes"),
    ],
)
def test_invalid_option_names_its_flag(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CompareOptions(**change).plan(40, "none")
    assert str(caught.value).startswith(flag)


def test_size_above_the_training_set() -> None:
    options = CompareOptions(batch_sizes=(90,), samples=100)
    with pytest.raises(ConfigError, match="90 exceeds the 80 training samples"):
        options.sizes(options.plan(1000, "none"))


@given(st.integers(2, 5000), st.integers(2, 5000), st.floats(0.01, 0.99), st.integers(1, 2))
def test_full_is_the_training_set(samples: int, length: int, holdout: float, folds: int) -> None:
    options = CompareOptions(batch_sizes=(FULL, 1, FULL, 1), samples=samples, holdout=holdout, folds=folds)
    plan = options.plan(length, "linear")
    assert plan.samples == min(samples, length)
    assert options.sizes(plan) == ((plan.num_train_samples, 1) if plan.num_train_samples > 1 else (1,))


def test_lr_scaling_defaults_to_the_optimizers() -> None:
    assert CompareOptions().plan(100, "sqrt").lr_scaling == "sqrt"
    assert CompareOptions(lr_scaling="none").plan(100, "sqrt").lr_scaling == "none"
