"""The question itself: as it is, each change by itself, the best of them together, and what the user asks besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vram_cli.advising.bench import Bench
from vram_cli.advising.combine import best_set, cheapest_set, grows
from vram_cli.advising.learning_rate import rate_for
from vram_cli.advising.levers import Lever, Price, levers_for
from vram_cli.advising.split import effective, fitting
from vram_cli.advising.why import saved, why_not
from vram_cli.config import Config, load_config
from vram_cli.errors import ConfigError, VramError
from vram_cli.memory.gpus import Gpu, find_gpu
from vram_cli.results import Advice, CardAnswer, LeverAnswer, Measurement
from vram_cli.search import SearchListener

_ROOM = 16
"""Savings are measured one part in so many below the largest batch, so that there is room to watch a step."""


def advise(
    config: Config | str | None = None,
    *,
    own: Sequence[str] = (),
    fit_batch: int | None = None,
    effective_batch: int | None = None,
    gpus: Sequence[str] = (),
    download: bool = False,
    status: Callable[[str], None] = lambda _: None,
    listener: SearchListener | None = None,
) -> Advice:
    """Say what would let a larger batch fit; everything in it was tried, by real steps or by prediction.

    Args:
        config: the training as it is; a file name is loaded, None means the bundled `mlp_mnist.yaml`.
        own: overrides to try as well, such as "train.freeze=[features.*]".
        fit_batch: a batch size for which the cheapest set of changes is looked for.
        effective_batch: a batch size to be made of accumulated smaller ones.
        gpus: cards of the catalogue to compare.
        download: whether missing data files may be downloaded.
        status: told in a few words what is tried.
        listener: told of each trial.

    Raises:
        ConfigError: the config, or something asked for, says something wrong.
        WorkloadError: the model or its data raise at the smallest batch.
        MachineError: the device is not there.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    for override in own:
        settings.changed([override])  # says now what is wrong with it
    cards = [find_gpu(name) for name in gpus]
    with Bench(settings, status=status, listener=listener, download=download) as bench:
        study = Study(bench, own)
        answers = [study.answer(lever) for lever in study.levers]
        best = study.best(answers)
        fit = fitting(study, fit_batch, answers) if fit_batch else None
        split = effective(study, effective_batch) if effective_batch else None
        goal = effective_batch or fit_batch or _within(bench.length, best.max_batch_size if best else study.largest)
        base = study.base
        advice = Advice(
            config_name=str(settings.source.path or settings.source.name),
            config=settings.model_dump(mode="json"),
            overrides=settings.source.overrides,
            device=bench.device,
            versions=bench.versions,
            remark=bench.remark,
            max_batch_size=study.largest or None,
            at_batch_size=study.at,
            breakdown=base.breakdown if base else None,
            levers=tuple(answers),
            best=best,
            fit=fit,
            effective=split,
            rate=rate_for(settings, goal) if goal else None,
            notes=_notes(bench, study, answers),
        )
    return replace(advice, cards=tuple(_card(settings, card, own, status) for card in cards))


class Study:
    """A training as it is, and what changes would do to it."""

    def __init__(self, bench: Bench, own: Sequence[str]) -> None:
        self.bench, self.config = bench, bench.config
        self.largest = bench.largest(self.config, "the training as it is").max_batch_size or 0
        self.at = max(self.largest - self.largest // _ROOM, 1)
        self.base: Measurement | None = None
        if self.largest:
            self.base = bench.at(self.config, self.at, "where its memory goes")
        kind = bench.device.type.partition(":")[0]
        self.levers = levers_for(self.config, kind, _card_of(bench), own)

    def changed(self, levers: Sequence[Lever]) -> Config:
        """Return the config with changes made.

        Raises:
            ConfigError: they do not go together.
        """
        return self.config.changed([text for lever in levers for text in lever.sets])

    def largest_with(self, levers: Sequence[Lever]) -> int:
        """Return the largest batch with changes; 0 where it cannot be had."""
        try:
            found = self.bench.largest(self.changed(levers), " + ".join(lever.name for lever in levers))
        except VramError:
            return 0
        return found.max_batch_size or 0

    def fits(self, levers: Sequence[Lever], batch_size: int, sets: Sequence[str] = ()) -> bool:
        """Whether a batch fits with changes."""
        names = " + ".join(lever.name for lever in levers) or "it as it is"
        try:
            changed = self.changed(levers).changed(sets) if sets else self.changed(levers)
            measured = self.bench.at(changed, batch_size, f"{names} at {batch_size:,}")
        except VramError:
            return False
        return measured.fits and not measured.thrashing

    def answer(self, lever: Lever) -> LeverAnswer:
        """Try one change by itself."""
        answer = LeverAnswer(name=lever.name, sets=lever.sets, price=lever.words)
        try:
            config = self.changed([lever])
            found = self.bench.largest(config, lever.name)
            measured = self.bench.at(config, self.at, lever.name)
        except VramError as error:
            return replace(answer, why=error.message)
        size, helps = found.max_batch_size, grows(self.largest, found.max_batch_size or 0)
        answer = replace(answer, max_batch_size=size, helps=helps)
        if self.base is None or self.base.breakdown is None or measured.breakdown is None:
            return answer if helps else replace(answer, why=why_not(None, self.at, None))
        amount, row = saved(self.base.breakdown, measured.breakdown)
        whole = lever.price is not Price.SPLIT  # a step of several batches does as many times the work
        why = "" if helps else why_not(amount, self.at, self.base.breakdown.peak_phase)
        return replace(
            answer,
            saved_bytes=amount,
            saved_from=row,
            compute=_ratio(measured.flops, self.base.flops) if whole else None,
            seconds=_ratio(measured.step_seconds, self.base.step_seconds) if whole else None,
            why=why,
        )

    def best(self, answers: Sequence[LeverAnswer]) -> LeverAnswer | None:
        """Try the changes that help together; None where there are fewer than two."""
        sizes = [(lever, answer.max_batch_size or 0) for lever, answer in zip(self.levers, answers, strict=True)]
        chosen, size = best_set(sizes, self.largest, self.largest_with)
        if not chosen:
            return None
        return LeverAnswer(
            name=" + ".join(lever.name for lever in chosen),
            sets=tuple(text for lever in chosen for text in lever.sets),
            price="; ".join(dict.fromkeys(lever.words for lever in chosen if lever.words)),
            max_batch_size=size,
            helps=True,
        )

    def cheapest(self, batch_size: int, answers: Sequence[LeverAnswer]) -> list[Lever] | None:
        """Return the cheapest set of changes with which a batch fits; only such as save something are looked at."""
        useful = [
            lever
            for lever, answer in zip(self.levers, answers, strict=True)
            if answer.helps or (answer.saved_bytes or 0) > 0
        ]
        return cheapest_set(useful, lambda chosen: self.fits(chosen, batch_size))


def _card(config: Config, card: Gpu, own: Sequence[str], status: Callable[[str], None]) -> CardAnswer:
    changed = config.changed(["device.name=auto", f"device.gpu={card.name}", "device.budget=null"])
    with Bench(changed, status=lambda text: status(f"{card.name}: {text}")) as bench:
        study = Study(bench, own)
        best = study.best([study.answer(lever) for lever in study.levers])
        return CardAnswer(
            name=card.name,
            capacity_bytes=bench.device.capacity_bytes,
            max_batch_size=study.largest or None,
            best=best,
        )


def _card_of(bench: Bench) -> Gpu | None:
    try:
        return find_gpu(bench.device.name)
    except ConfigError:
        return None


def _within(length: int | None, batch_size: int | None) -> int | None:
    return min(batch_size, length) if batch_size and length else batch_size


def _ratio(after: float | None, before: float | None) -> float | None:
    return after / before if after and before else None


def _notes(bench: Bench, study: Study, answers: Sequence[LeverAnswer]) -> tuple[str, ...]:
    notes = ["sizes that run only because the allocator gives its cache back are not counted as fitting"]
    top = max([study.largest, *(answer.max_batch_size or 0 for answer in answers)])
    if bench.length is not None and top > bench.length:
        notes.append(f"the data set has {bench.length:,} samples, and no batch can be larger; sizes here are of memory")
    if bench.device.kind == "real":
        notes.append("real searches stop within 2 % below the largest size, since there are many of them")
    return tuple(notes)
