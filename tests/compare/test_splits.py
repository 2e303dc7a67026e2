"""Training and validation samples are disjoint, and the same for every batch size."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vram_cli.compare.records import ComparePlan
from vram_cli.compare.splits import shuffled_steps, split, steps_per_epoch


def make_plan(samples: int = 100, folds: int = 1, holdout: float = 0.2, seed: int = 0) -> ComparePlan:
    return ComparePlan(samples=samples, holdout=holdout, folds=folds, epochs=1, lr_scaling="none", warmup=0, seed=seed)


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 50), st.integers(0, 9))
def test_training_and_validation_are_disjoint(samples: int, holdout: float, extra: int, seed: int) -> None:
    plan = make_plan(samples, holdout=holdout, seed=seed)
    train, validation = split(samples + extra, plan, 0)
    assert (len(train), len(validation)) == (plan.num_train_samples, plan.num_val_samples)
    assert train
    assert validation
    indices = set(train) | set(validation)
    assert len(indices) == samples
    assert indices <= set(range(samples + extra))


@given(st.integers(2, 9), st.integers(0, 100), st.integers(0, 9))
def test_each_sample_validates_one_fold(folds: int, extra: int, seed: int) -> None:
    plan = make_plan(folds + extra, folds=folds, seed=seed)
    splits = [split(plan.samples, plan, fold) for fold in range(folds)]
    assert sorted(index for _, validation in splits for index in validation) == list(range(plan.samples))
    for train, validation in splits:
        assert set(train).isdisjoint(validation)
        assert len(train) <= plan.num_train_samples
        assert len(validation) >= plan.num_val_samples


def test_seed_selects_the_samples() -> None:
    first = split(1000, make_plan(seed=1), 0)
    assert split(1000, make_plan(seed=1), 0) == first
    assert split(1000, make_plan(seed=2), 0) != first


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 4), st.integers(1, 3))
def test_each_epoch_has_all_samples_except_a_single_leftover(
    samples: int, batch_size: int, accumulation: int, epochs: int
) -> None:
    step_size = batch_size * accumulation
    steps = list(shuffled_steps(samples, step_size, batch_size, epochs, torch.Generator().manual_seed(0)))
    assert len(steps) == epochs * steps_per_epoch(samples, step_size, batch_size)
    indices = torch.cat([batch for batches in steps for batch in batches] or [torch.zeros(0, dtype=torch.int64)])
    counts = torch.bincount(indices, minlength=samples)
    leftover = batch_size > 1 and samples % step_size % batch_size == 1
    assert int(counts.sum()) == epochs * (samples - leftover)
    assert int(counts.max()) <= epochs
    assert all(len(batch) <= batch_size and (len(batch) > 1 or batch_size == 1) for step in steps for batch in step)


def test_each_epoch_is_shuffled() -> None:
    first, second = shuffled_steps(50, 50, 50, 2, torch.Generator().manual_seed(0))
    assert not torch.equal(first[0], second[0])
