"""A batch that is wanted, made to fit: by the cheapest changes, or in pieces whose gradients are added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vram_cli.results import LeverAnswer, SplitAnswer

if TYPE_CHECKING:
    from vram_cli.advising.advise import Study


def fitting(study: Study, wanted: int, answers: Sequence[LeverAnswer]) -> SplitAnswer:
    """Return the cheapest way to train with a batch: as it is, with changes, or else in pieces."""
    if wanted <= study.largest:
        return SplitAnswer(wanted=wanted, micro_batch_size=wanted, note="it fits as it is")
    levers = study.cheapest(wanted, answers)
    if levers is not None:
        sets = tuple(text for lever in levers for text in lever.sets)
        return SplitAnswer(
            wanted=wanted, micro_batch_size=wanted, sets=sets, note=" + ".join(lever.name for lever in levers)
        )
    split = effective(study, wanted)
    note = "no set of up to three changes makes it fit whole"
    return SplitAnswer(wanted=wanted, micro_batch_size=split.micro_batch_size, accumulate=split.accumulate, note=note)


def effective(study: Study, wanted: int) -> SplitAnswer:
    """Return the largest equal pieces that fit, with the gradients that wait between them."""
    if wanted <= study.largest:
        return SplitAnswer(wanted=wanted, micro_batch_size=wanted, note="it fits in one piece")
    tried = 0
    for count in pieces(wanted, study.largest):
        if study.fits([], wanted // count, [f"train.accumulate={count}"]):
            return SplitAnswer(wanted=wanted, micro_batch_size=wanted // count, accumulate=count)
        tried += 1
    note = "not even one sample fits with gradients kept" if tried else "nothing fits as it is"
    return SplitAnswer(wanted=wanted, micro_batch_size=None, note=note)


def pieces(wanted: int, largest: int) -> list[int]:
    """Return into how many equal pieces a batch may be cut so that each is at most `largest`, the fewest first.

    Where there is no such number near the smallest possible one, pieces of one more or less would be needed; the
    numbers returned are divisors of `wanted` all the same.
    """
    if largest < 1:
        return []
    return [count for count in range(-(-wanted // largest), wanted + 1) if wanted % count == 0]
