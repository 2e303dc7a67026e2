"""What the flags of `vram compare` mean, and what is wrong with some."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.options import FULL, CompareOptions, parse_sizes
from vram_cli.errors import ConfigError


def test_sizes_are_numbers_or_full() -> None:
    assert parse_sizes("1, 32,full") == (1, 32, FULL)


@pytest.mark.parametrize("text", ["1,two", "-4", "1.5", "Full", "²", "9" * 30])
def test_what_is_no_size_is_named(text: str) -> None:
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
        ({"batch_sizes": ()}, "--batch-sizes"),
        ({"batch_sizes": (0,)}, "--batch-sizes"),
    ],
)
def test_what_cannot_be_done_names_its_flag(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CompareOptions(**change).plan(40, "none")
    assert str(caught.value).startswith(flag)


def test_a_size_above_the_training_samples_is_refused_with_the_largest_there_is() -> None:
    asked = CompareOptions(batch_sizes=(90,), samples=100)
    with pytest.raises(ConfigError, match="90 is more than the 80 training samples"):
        asked.sizes(asked.plan(1000, "none"))


@given(st.integers(2, 5000), st.integers(2, 5000), st.floats(0.01, 0.99), st.integers(1, 2))
def test_full_is_all_training_samples_and_each_size_comes_once(n: int, length: int, holdout: float, folds: int) -> None:
    asked = CompareOptions(batch_sizes=(FULL, 1, FULL, 1), samples=n, holdout=holdout, folds=folds)
    plan = asked.plan(length, "linear")
    assert plan.samples == min(n, length)
    assert asked.sizes(plan) == ((plan.trained, 1) if plan.trained > 1 else (1,))


def test_the_optimizers_own_rule_is_taken_where_none_is_asked_for() -> None:
    assert CompareOptions().plan(100, "sqrt").scaling == "sqrt"
    assert CompareOptions(scaling="none").plan(100, "sqrt").scaling == "none"
