"""Which samples are trained on and in which order: every size sees the same ones, and none of the hold-out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.records import ComparePlan
from vram_cli.compare.splits import split, steps_per_epoch, updates


def a_plan(samples: int = 100, folds: int = 1, holdout: float = 0.2, seed: int = 0) -> ComparePlan:
    return ComparePlan(samples=samples, holdout=holdout, folds=folds, epochs=1, scaling="none", warmup=0, seed=seed)


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 50), st.integers(0, 9))
def test_nothing_is_both_trained_on_and_validated_with(samples: int, holdout: float, more: int, seed: int) -> None:
    plan = a_plan(samples, holdout=holdout, seed=seed)
    trained, validated = split(samples + more, plan, 0)
    assert (len(trained), len(validated)) == (plan.trained, plan.validated)
    assert trained
    assert validated
    together = set(trained) | set(validated)
    assert len(together) == samples
    assert together <= set(range(samples + more))


@given(st.integers(2, 9), st.integers(0, 100), st.integers(0, 9))
def test_folds_validate_with_every_sample_once(folds: int, more: int, seed: int) -> None:
    plan = a_plan(folds + more, folds=folds, seed=seed)
    parts = [split(plan.samples, plan, fold) for fold in range(folds)]
    assert sorted(place for _, validated in parts for place in validated) == list(range(plan.samples))
    for trained, validated in parts:
        assert set(trained).isdisjoint(validated)
        assert len(trained) <= plan.trained
        assert len(validated) >= plan.validated


def test_another_seed_chooses_other_samples_and_the_same_one_the_same() -> None:
    first = split(1000, a_plan(seed=1), 0)
    assert split(1000, a_plan(seed=1), 0) == first
    assert split(1000, a_plan(seed=2), 0) != first


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 4), st.integers(1, 3))
def test_every_epoch_has_every_sample_but_a_lone_one(samples: int, per_batch: int, parts: int, epochs: int) -> None:
    per_step = per_batch * parts
    steps = list(updates(samples, per_step, per_batch, epochs, torch.Generator().manual_seed(0)))
    assert len(steps) == epochs * steps_per_epoch(samples, per_step, per_batch)
    seen = torch.cat([piece for pieces in steps for piece in pieces] or [torch.zeros(0, dtype=torch.int64)])
    counts = torch.bincount(seen, minlength=samples)
    lone = per_batch > 1 and samples % per_step % per_batch == 1
    assert int(counts.sum()) == epochs * (samples - lone)
    assert int(counts.max()) <= epochs
    assert all(len(piece) <= per_batch and (len(piece) > 1 or per_batch == 1) for step in steps for piece in step)


def test_epochs_are_shuffled_anew() -> None:
    first, second = updates(50, 50, 50, 2, torch.Generator().manual_seed(0))
    assert not torch.equal(first[0], second[0])
