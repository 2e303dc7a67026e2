"""A batch that is wanted, made to fit: by the cheapest changes, or in pieces whose gradients are added up."""

from __future__ import annotations

from math import isqrt

from vram_cli.commands.advise.advice_run import AdviceRun
from vram_cli.config import with_overrides
from vram_cli.errors import ConfigError
from vram_cli.records import AccumulationPlan


def fitting(study: AdviceRun, wanted: int) -> AccumulationPlan:
    """Return the cheapest way to train with a batch: as it is, with changes, or else in pieces."""
    if wanted <= study.largest:
        return AccumulationPlan(wanted=wanted, micro_batch_size=wanted, note="it fits as it is")
    found = study.cheapest(wanted)
    if found is not None:
        return AccumulationPlan(wanted=wanted, micro_batch_size=wanted, sets=found.sets, note=found.name)
    split = effective(study, wanted * study.config.train.gradient_accumulation_steps)
    note = "; ".join(filter(None, ("with no set of changes that was tried it fits whole", split.note)))
    return AccumulationPlan(
        wanted=wanted, micro_batch_size=split.micro_batch_size, accumulate=split.accumulate, note=note
    )


def effective(study: AdviceRun, wanted: int) -> AccumulationPlan:
    """Return the largest equal pieces that fit, with the gradients that wait between them."""
    if study.config.train.gradient_accumulation_steps == 1 and wanted <= study.largest:
        return AccumulationPlan(wanted=wanted, micro_batch_size=wanted, note="it fits in one piece")
    try:
        count = next((count for count in pieces(wanted, study.largest) if _fits(study, wanted // count, count)), None)
    except ConfigError as error:
        return AccumulationPlan(wanted=wanted, micro_batch_size=None, note=error.message)
    if count is None:
        note = "not even one sample fits with gradients kept" if study.largest else "nothing fits as it is"
        return AccumulationPlan(wanted=wanted, micro_batch_size=None, note=note)
    sets, note = (
        ((), _nearby(study, wanted, count)) if count > 1 else (("train.gradient_accumulation_steps=1",), "in one piece")
    )
    return AccumulationPlan(wanted=wanted, micro_batch_size=wanted // count, accumulate=count, sets=sets, note=note)


def pieces(wanted: int, largest: int) -> list[int]:
    """Return into how many equal pieces a batch may be cut so that each is at most `largest`, the fewest first.

    All divide `wanted`: a prime number above `largest` can only be cut into single samples.
    """
    small = [count for count in range(1, isqrt(wanted) + 1) if wanted % count == 0]
    return [count for count in sorted({*small, *(wanted // count for count in small)}) if wanted <= count * largest]


def _fits(study: AdviceRun, size: int, count: int) -> bool:
    config = with_overrides(study.config, [f"train.gradient_accumulation_steps={count}"])
    return study.fits(config, size, f"{count:,} pieces of {size:,}")


def _nearby(study: AdviceRun, wanted: int, count: int) -> str:
    """Return another batch that takes far fewer pieces, where `wanted` has no divisor near the fewest possible."""
    fewest = -(-wanted // study.largest)
    size = wanted // fewest
    if count <= 2 * fewest or not _fits(study, size, fewest):
        return ""
    return f"{fewest:,} pieces of {size:,} would make {fewest * size:,}"
