"""Which samples are trained on, in which order, and which are kept to validate with."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import torch

from vram_cli.compare.records import ComparePlan


def split(length: int, plan: ComparePlan, fold: int) -> tuple[list[int], list[int]]:
    """Return the places of training and of validation samples in a data set of `length`, for one of the plan's folds.

    The plan's samples are chosen by its seed alone: all sizes, repeats and folds share them. Every sample is in the
    validation of exactly one fold; without folds the hold-out is always the same.
    """
    chosen = Random(plan.seed).sample(range(length), plan.samples)  # noqa: S311 - has to be the same each time
    if plan.folds == 1:
        return chosen[plan.validated :], chosen[: plan.validated]
    start, end = (plan.samples * edge // plan.folds for edge in (fold, fold + 1))
    return chosen[:start] + chosen[end:], chosen[start:end]


def steps_per_epoch(samples: int, per_step: int, per_batch: int) -> int:
    """Return how many steps of the optimizer `updates` takes to see all samples once."""
    whole, rest = divmod(samples, per_step)
    return whole + (rest > 0 and not _is_left_out(rest, per_batch))


def updates(
    samples: int, per_step: int, per_batch: int, epochs: int, generator: torch.Generator
) -> Iterator[list[torch.Tensor]]:
    """Return the batches of each of the optimizer's steps, as places among the samples: shuffled anew in each epoch.

    A step has `per_step` samples, in batches of `per_batch`; the last of an epoch has what is left. One sample by
    itself is left out, since batch norm refuses it.
    """
    for _ in range(epochs):
        for rows in torch.randperm(samples, generator=generator).split(per_step):
            pieces = [piece for piece in rows.split(per_batch) if not _is_left_out(len(piece), per_batch)]
            if pieces:
                yield pieces


def _is_left_out(samples: int, per_batch: int) -> bool:
    return samples == 1 < per_batch
