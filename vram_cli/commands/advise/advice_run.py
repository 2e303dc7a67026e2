"""A training as it is, and what changes do to it: found step by step, so that it can be told at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vram_cli.commands.advise.combinations import GAIN, cheapest_set, growing_sets, grows
from vram_cli.commands.advise.optimizations import Cost, MemoryOptimization, levers_for
from vram_cli.commands.advise.reasons import saved, why_not
from vram_cli.commands.advise.trial_runner import TrialRunner
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError, CutShortError, Interrupted, ProbeError, VramError
from vram_cli.records import Device, Measurement, OptimizationResult

_ROOMS = (16, 4, 2)
"""Savings are measured one part in so many below the largest batch, so that there is room to watch a step; where that
was not room enough, further below."""

_BROKEN = (CutShortError, ProbeError)
"""Errors that say nothing about a change, nor about memory; other errors say why a change cannot be made."""


class AdviceRun:
    """A training on a bench.

    Args:
        bench: where it is tried.
        config: the training.
        own: overrides to try as well.
        name: what it is called where there are several.

    Attributes:
        gain: the share by which a batch has to grow for a change to help.
        largest: the largest batch as it is; 0 where nothing fits.
        at: where savings are measured.
        base: the training as it is, at that size.
        answers: of the levers, in their order, as far as they were tried.
        best: the best set of changes that is known.

    Raises:
        VramError: it cannot run, or cannot be predicted, here.
    """

    def __init__(self, bench: TrialRunner, config: Config, own: Sequence[str] = (), name: str = "") -> None:
        self.bench, self.config, self._name = bench, config, f"{name}: " if name else ""
        bench.open(config, f"{self._name}the training as it is")
        self.device: Device = bench.device
        self.run_info, self.length = bench.run_info, bench.num_samples
        self.gain = max(GAIN, bench.tolerance)
        self.levers = levers_for(config, self.device, own)
        self.largest, self.at = 0, 1
        self.base: Measurement | None = None
        self.answers: list[OptimizationResult] = []
        self.best: OptimizationResult | None = None

    @property
    def best_size(self) -> int:
        """The largest batch that is known, with changes or without; 0 where nothing fits."""
        return (self.best.max_batch_size or 0) if self.best else self.largest

    def run(self) -> None:
        """Try the training as it is, each change by itself, and those that help together.

        Raises:
            WorkloadError: its own code raises at the smallest batch.
            KeyboardInterrupt: Ctrl-C; what was found by then is there.
        """
        self._as_it_is()
        for lever in self.levers:
            answer = self._answer(lever)
            self.answers.append(answer)
            size = answer.max_batch_size or 0
            if lever.price is not Cost.SPLIT and grows(self.best_size, size, self.gain):
                self.best = _together([lever], size)
        sizes = [(lever, answer.max_batch_size or 0) for lever, answer in self._tried()]
        for chosen, size in growing_sets(sizes, self.largest, self._largest_with, self.gain):
            self.best = _together(chosen, size)

    def cheapest(self, batch_size: int) -> OptimizationResult | None:
        """Return the cheapest set of changes with which a batch fits; only such as save something are looked at.

        None where the batch is above the best that is known.
        """
        if self.best is None or batch_size > self.best_size:
            return None
        useful = [
            lever
            for lever, answer in self._tried()
            if (answer.helps and answer.pieces == 1) or (answer.saved_bytes or 0) > 0
        ]
        chosen = cheapest_set(useful, lambda levers: self._fits_with(levers, batch_size))
        return _together(chosen, batch_size) if chosen else self.best

    def fits(self, config: Config, batch_size: int, what: str) -> bool:
        """Whether a batch fits with a config; False where it cannot be had."""
        try:
            return self.bench.fits(config, batch_size, self._name + what)
        except _BROKEN:
            raise
        except VramError:
            return False

    def _as_it_is(self) -> None:
        what = f"{self._name}the training as it is"
        try:
            self.largest = self.bench.largest(self.config, what).max_batch_size or 0
        except Interrupted as stop:
            self.largest = stop.partial.max_batch_size or 0
            raise
        if not self.largest:
            return
        for size in dict.fromkeys(self.largest - self.largest // room for room in _ROOMS):  # once each, where few fit
            self.at, self.base = size, self.bench.at(self.config, size, what)
            if self.base.breakdown is not None or self.config.train.compile:  # compiled code has none at any size
                return

    def _answer(self, lever: MemoryOptimization) -> OptimizationResult:
        """Try one change by itself."""
        answer = OptimizationResult(name=lever.name, sets=lever.sets, price=lever.words)
        try:
            config = self._changed([lever])
            found = self.bench.largest(config, self._name + lever.name, self.at)
            measured = self.bench.at(config, self.at, self._name + lever.name) if self.base else None
        except _BROKEN:
            raise
        except VramError as error:
            return replace(answer, why=error.message)
        size, pieces = (
            found.max_batch_size or 0,
            max(config.train.gradient_accumulation_steps // self.config.train.gradient_accumulation_steps, 1),
        )
        helps = grows(self.largest, size * pieces, self.gain)
        answer = replace(answer, max_batch_size=size or None, pieces=pieces, helps=helps)
        return self._compared(answer, measured)

    def _compared(self, answer: OptimizationResult, measured: Measurement | None) -> OptimizationResult:
        """Add how a change differs from the training as it is, where that runs too."""
        base = self.base
        if base is None or measured is None:
            return answer if answer.helps else replace(answer, why="nothing fits with it either")
        if not measured.fits or measured.thrashing:
            why = f"does not fit at {self.at:,}, as the training as it is does"
            return answer if answer.helps else replace(answer, why=why)
        whole = answer.pieces == 1  # a step of several batches does as many times the work
        answer = replace(
            answer,
            compute=_ratio(measured.flops, base.flops) if whole else None,
            seconds=_ratio(measured.step_seconds, base.step_seconds) if whole else None,
        )
        if base.breakdown is None or measured.breakdown is None:
            return answer if answer.helps else replace(answer, why=f"the batch does not grow by {100 * self.gain:g} %")
        amount, row = saved(base.breakdown, measured.breakdown)
        cap = self.config.search.max_batch_size if answer.max_batch_size == self.config.search.max_batch_size else None
        why = "" if answer.helps else why_not(amount, self.at, measured.breakdown.peak_phase, gain=self.gain, cap=cap)
        return replace(answer, saved_bytes=amount, saved_from=row, why=why)

    def _largest_with(self, levers: Sequence[MemoryOptimization]) -> int:
        """Return the largest batch with changes; 0 where it cannot be had."""
        try:
            found = self.bench.largest(self._changed(levers), self._name + _names(levers), self.best_size)
        except _BROKEN:
            raise
        except VramError:
            return 0
        return found.max_batch_size or 0

    def _fits_with(self, levers: Sequence[MemoryOptimization], batch_size: int) -> bool:
        try:
            config = self._changed(levers)
        except ConfigError:
            return False
        return self.fits(config, batch_size, _names(levers))

    def _changed(self, levers: Sequence[MemoryOptimization]) -> Config:
        return with_overrides(self.config, [text for lever in levers for text in lever.sets])

    def _tried(self) -> list[tuple[MemoryOptimization, OptimizationResult]]:
        return list(zip(self.levers, self.answers, strict=False))


def _together(levers: Sequence[MemoryOptimization], size: int) -> OptimizationResult:
    return OptimizationResult(
        name=_names(levers),
        sets=tuple(text for lever in levers for text in lever.sets),
        price="; ".join(dict.fromkeys(lever.words for lever in levers if lever.words)),
        max_batch_size=size,
        helps=True,
    )


def _names(levers: Sequence[MemoryOptimization]) -> str:
    return " + ".join(lever.name for lever in levers)


def _ratio(after: float | None, before: float | None) -> float | None:
    return after / before if after and before else None
