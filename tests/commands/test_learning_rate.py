"""Suggested learning rates, against values computed by hand."""

from __future__ import annotations

import pytest

from tests.commands.advise.formula_probe import training
from vram_cli.commands.learning_rate import suggest_learning_rate


@pytest.mark.parametrize(
    ("optimizer", "samples", "learning_rate", "rule"),
    [
        ("sgd", 8192, 3.2, "linear"),  # Goyal et al.: 0.1 at 256
        ("sgd", 512, 0.2, "linear"),
        ("sgd", 128, 0.05, "linear"),
        ("adam", 1024, 0.2, "square root"),  # 4 times the batch, twice the rate
        ("adamw", 2304, 0.3, "square root"),
        ("rmsprop", 64, 0.05, "square root"),
        ("adagrad", 256, 0.1, "square root"),
        ("paged_adamw8bit", 1024, 0.2, "square root"),
    ],
)
def test_learning_rate(optimizer: str, samples: int, learning_rate: float, rule: str) -> None:
    config = training(f"optimizer={{name: {optimizer}}}", "train.batch_size=256", "train.learning_rate=0.1")
    suggestion = suggest_learning_rate(config, samples)
    assert suggestion.learning_rate == pytest.approx(learning_rate)
    assert (suggestion.rule, suggestion.from_batch_size, suggestion.batch_size) == (rule, 256, samples)
    assert suggestion.from_learning_rate == 0.1


def test_note_has_source_and_limits() -> None:
    linear = suggest_learning_rate(training("optimizer={name: sgd}", "train.batch_size=256"), 512).note
    assert all(word in linear for word in ("Goyal et al. 2017", "warm-up", "8,192", "validation"))
    root = suggest_learning_rate(training("optimizer={name: adam}"), 512).note
    assert all(word in root for word in ("Malladi et al. 2022", "betas", "validation"))


def test_lower_learning_rate_needs_no_warm_up() -> None:
    down = suggest_learning_rate(training("optimizer={name: sgd}", "train.batch_size=256"), 128).note
    assert "warm-up" not in down
    assert all(word in down for word in ("Goyal et al. 2017", "validation"))


def test_accumulated_micro_batches_count() -> None:
    suggestion = suggest_learning_rate(
        training("optimizer={name: sgd}", "train.gradient_accumulation_steps=4", "train.learning_rate=0.1"), 1024
    )
    assert suggestion.from_batch_size == 512
    assert suggestion.learning_rate == pytest.approx(0.2)
