"""Training and validation samples, and the order of the training samples."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import torch

from vram_cli.compare.records import ComparePlan


def split(num_samples: int, plan: ComparePlan, fold: int) -> tuple[list[int], list[int]]:
    """Return the indices of the training and the validation samples in a data set, for one fold of the plan.

    Only the plan's seed selects the samples, so all sizes, repeats and folds share them. Each sample validates exactly
    one fold; without folds, the hold-out set is always the same.
    """
    indices = Random(plan.seed).sample(range(num_samples), plan.samples)  # noqa: S311 - must be reproducible
    if plan.folds == 1:
        return indices[plan.num_val_samples :], indices[: plan.num_val_samples]
    start, end = (plan.samples * edge // plan.folds for edge in (fold, fold + 1))
    return indices[:start] + indices[end:], indices[start:end]


def steps_per_epoch(num_samples: int, step_size: int, batch_size: int) -> int:
    """Return the number of optimizer steps per epoch of `shuffled_steps`."""
    whole, rest = divmod(num_samples, step_size)
    return whole + (rest > 0 and not _is_dropped(rest, batch_size))


def shuffled_steps(
    num_samples: int, step_size: int, batch_size: int, epochs: int, generator: torch.Generator
) -> Iterator[list[torch.Tensor]]:
    """Yield the batches of each optimizer step as indices of samples, shuffled in every epoch.

    Args:
        num_samples: Samples per epoch.
        step_size: Samples per optimizer step; the last step of an epoch has the rest.
        batch_size: Samples per batch, of which a step accumulates several. A batch of a single leftover sample is
            dropped, since batch norm rejects it.
        epochs: Passes over the samples.
        generator: Source of the random order.
    """
    for _ in range(epochs):
        for indices in torch.randperm(num_samples, generator=generator).split(step_size):
            batches = [batch for batch in indices.split(batch_size) if not _is_dropped(len(batch), batch_size)]
            if batches:
                yield batches


def _is_dropped(samples: int, batch_size: int) -> bool:
    return samples == 1 < batch_size
