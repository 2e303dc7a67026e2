"""Plans for a given batch size: the cheapest changes that make it fit, or micro-batches with accumulated gradients.

The batch is that of all ranks together, and each trains an equal share of it.
"""

from __future__ import annotations

from math import isqrt

from vram_cli.commands.advise.advice_run import AdviceRun
from vram_cli.config import with_overrides
from vram_cli.errors import ConfigError
from vram_cli.records import AccumulationPlan


def plan_fit_batch(run: AdviceRun, batch_size: int) -> AccumulationPlan:
    """Return the cheapest way to run a batch: without changes, with changes, or else in micro-batches."""
    share = batch_size // run.config.ranks
    if share not in run.accepted_sizes:
        note = f"the training refuses it: of the sizes tried, only {run.accepted_sizes} ran"
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=None, note=note)
    if share <= run.max_batch_size:
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=share, note="fits without changes")
    combination = run.cheapest_combination(share)
    if combination is not None:
        return AccumulationPlan(
            batch_size=batch_size,
            micro_batch_size=share,
            overrides=combination.overrides,
            note=combination.name,
        )
    note = "no combination of the changes tried makes it fit whole"
    if run.config.script is not None:
        note = "nothing that a script leaves open makes it fit whole; its own accumulation may"
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=None, note=note)
    if run.config.mode == "eval":  # without gradients there is nothing to accumulate
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=None, note=note)
    plan = plan_effective_batch(run, batch_size * run.config.train.gradient_accumulation_steps)
    return AccumulationPlan(
        batch_size=batch_size,
        micro_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        note="; ".join(filter(None, (note, plan.note))),
    )


def plan_effective_batch(run: AdviceRun, batch_size: int) -> AccumulationPlan:
    """Return the largest equal micro-batches that fit beside the gradients accumulated between them."""
    share = batch_size // run.config.ranks
    is_accepted = share in run.accepted_sizes
    if run.config.train.gradient_accumulation_steps == 1 and is_accepted and share <= run.max_batch_size:
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=share, note="fits without accumulation")
    counts = micro_batch_counts(share, run.max_batch_size)
    counts = [count for count in counts if share // count in run.accepted_sizes]
    try:
        steps = next((count for count in counts if _fits(run, share // count, count)), None)
    except ConfigError as error:
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=None, note=error.message)
    if steps is None:
        note = "not even one sample fits beside accumulated gradients" if run.max_batch_size else "nothing fits"
        if run.max_batch_size and not run.accepted_sizes.are_all:
            note = f"no micro-batch fits that the training accepts: of the sizes tried, only {run.accepted_sizes} ran"
        return AccumulationPlan(batch_size=batch_size, micro_batch_size=None, note=note)
    single = steps == 1
    return AccumulationPlan(
        batch_size=batch_size,
        micro_batch_size=share // steps,
        gradient_accumulation_steps=steps,
        overrides=("train.gradient_accumulation_steps=1",) if single else (),
        note="without accumulation" if single else _nearby_plan(run, share, steps),
    )


def micro_batch_counts(batch_size: int, largest: int) -> list[int]:
    """Return the numbers of equal micro-batches of at most `largest` samples, in ascending order.

    All divide `batch_size`, so that a prime number above `largest` leaves only micro-batches of one sample.
    """
    divisors = [count for count in range(1, isqrt(batch_size) + 1) if batch_size % count == 0]
    divisors = sorted({*divisors, *(batch_size // count for count in divisors)})
    return [count for count in divisors if batch_size <= count * largest]


def _fits(run: AdviceRun, size: int, count: int) -> bool:
    config = with_overrides(run.config, [f"train.gradient_accumulation_steps={count}"])
    return run.fits(config, size, f"{count:,} micro-batches")


def _nearby_plan(run: AdviceRun, share: int, steps: int) -> str:
    """Return a similar batch size that takes far fewer micro-batches, if a rank's share has no suitable divisor."""
    fewest = -(-share // run.max_batch_size)
    size = run.accepted_sizes.floor(share // fewest)
    if not size or steps <= 2 * fewest or not _fits(run, size, fewest):
        return ""
    return f"{fewest:,} micro-batches of {size:,} would make {fewest * size * run.config.ranks:,}"
