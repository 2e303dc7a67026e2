"""A training and the changes tried on it, one after the other, so that the results so far can be read at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vram_cli.commands.advise.combinations import MIN_GAIN, cheapest_combination, growing_combinations, grows
from vram_cli.commands.advise.memory_optimization import MemoryOptimization
from vram_cli.commands.advise.optimizations import applicable_optimizations
from vram_cli.commands.advise.reasons import memory_saved, reason_not_helpful
from vram_cli.commands.advise.trial_runner import TrialRunner
from vram_cli.config import Config, with_overrides
from vram_cli.errors import ConfigError, CutShortError, Interrupted, ProbeError, VramError
from vram_cli.records import BatchSizes, Device, Measurement, OptimizationResult

_HEADROOM = (16, 4, 2)
"""Savings are measured at the largest size less a sixteenth of it, because tracking a step needs memory as well; if
that is too little room, less a quarter or a half."""

FATAL = (CutShortError, ProbeError)
"""Errors that say nothing about a change, nor about memory; all others are the reason why a change cannot be made."""


class AdviceRun:
    """A training, the changes tried on it, and their results so far.

    Args:
        runner: runs the trials.
        config: the training without changes.
        also_try: further overrides to try.
        name: a prefix of the status texts, to tell several runs apart.

    Attributes:
        min_gain: the share by which the batch has to grow for a change to help.
        max_batch_size: the largest batch size without changes; 0 if nothing fits.
        accepted_sizes: the sizes that the training accepts.
        at_batch_size: the batch size at which savings are measured.
        baseline: the training without changes at that size.
        results: the results of `optimizations`, in the same order, as far as they were tried.
        best: the best combination so far.

    Raises:
        VramError: the training cannot run, or cannot be predicted, on this device.
    """

    def __init__(self, runner: TrialRunner, config: Config, also_try: Sequence[str] = (), name: str = "") -> None:
        self.runner, self.config, self._prefix = runner, config, f"{name}: " if name else ""
        self._unchanged = f"{self._prefix}the training without changes"
        runner.open(config, self._unchanged)
        self.device: Device = runner.device
        self.run_info, self.num_samples = runner.run_info, runner.num_samples
        self.min_gain = max(MIN_GAIN, runner.tolerance)
        self.optimizations = applicable_optimizations(config, self.device, also_try)
        self.max_batch_size, self.at_batch_size = 0, 1
        self.accepted_sizes = BatchSizes()
        self.baseline: Measurement | None = None
        self.results: list[OptimizationResult] = []
        self.best: OptimizationResult | None = None

    @property
    def best_batch_size(self) -> int:
        """The largest batch size so far, with or without changes; 0 if nothing fits."""
        return (self.best.max_batch_size or 0) if self.best else self.max_batch_size

    def run(self) -> None:
        """Try the training without changes, each change on its own, and combinations of those that help.

        Raises:
            WorkloadError: the user's code raises at the smallest batch.
            KeyboardInterrupt: Ctrl-C; the results so far can be read.
        """
        self._run_baseline()
        for optimization in self.optimizations:
            result = self._try(optimization)
            self.results.append(result)
            size = result.max_batch_size or 0
            if not optimization.cost.adds_batches and grows(self.best_batch_size, size, self.min_gain):
                self.best = _combined([optimization], size)
        sizes = [(optimization, result.max_batch_size or 0) for optimization, result in self._tried()]
        for combination, size in growing_combinations(sizes, self.max_batch_size, self._largest_with, self.min_gain):
            self.best = _combined(combination, size)

    def cheapest_combination(self, batch_size: int) -> OptimizationResult | None:
        """Return the cheapest combination with which a batch fits, out of the changes that save memory.

        None if the batch is larger than the best so far.
        """
        if self.best is None or batch_size > self.best_batch_size:
            return None
        useful = [
            optimization
            for optimization, result in self._tried()
            if (result.helps and result.micro_batches == 1) or (result.saved_bytes or 0) > 0
        ]
        combination = cheapest_combination(useful, lambda changes: self._fits_with(changes, batch_size))
        return _combined(combination, batch_size) if combination else self.best

    def fits(self, config: Config, batch_size: int, description: str) -> bool:
        """Return whether a batch fits with a config; False if the config cannot run."""
        try:
            return self.runner.fits(config, batch_size, self._prefix + description)
        except FATAL:
            raise
        except VramError:
            return False

    def _run_baseline(self) -> None:
        try:
            search = self.runner.largest(self.config, self._unchanged)
            self.max_batch_size, self.accepted_sizes = search.max_batch_size or 0, search.accepted_sizes
        except Interrupted as stop:
            self.max_batch_size = stop.partial.max_batch_size or 0
            raise
        if not self.max_batch_size:
            return
        # If few samples fit, some of these sizes are the same.
        sizes = [self.accepted_sizes.floor(self.max_batch_size - self.max_batch_size // part) for part in _HEADROOM]
        for size in dict.fromkeys(size or self.max_batch_size for size in sizes):
            self.at_batch_size, self.baseline = size, self.runner.measure(self.config, size, self._unchanged)
            if self.baseline.breakdown is not None or self.config.train.compile:  # compiled code has no breakdown
                return

    def _try(self, optimization: MemoryOptimization) -> OptimizationResult:
        """Try one change on its own."""
        result = OptimizationResult(
            name=optimization.name, overrides=optimization.overrides, cost=optimization.cost_text
        )
        description = self._prefix + optimization.name
        try:
            config = self._changed([optimization])
            search = self.runner.largest(config, description, self.at_batch_size)
            measurement = self.runner.measure(config, self.at_batch_size, description) if self.baseline else None
        except FATAL:
            raise
        except VramError as error:
            return replace(result, reason=error.message)
        size = search.max_batch_size or 0
        steps = config.train.gradient_accumulation_steps, self.config.train.gradient_accumulation_steps
        micro_batches = max(steps[0] // steps[1], 1)
        rank_ratio = config.ranks / self.config.ranks
        result = replace(
            result,
            max_batch_size=size or None,
            micro_batches=micro_batches,
            rank_ratio=rank_ratio,
            helps=grows(self.max_batch_size, int(size * micro_batches * rank_ratio), self.min_gain),
        )
        return self._compared(result, measurement)

    def _compared(self, result: OptimizationResult, measurement: Measurement | None) -> OptimizationResult:
        """Add the differences from the training without changes and, if the change does not help, the reason."""
        reason, baseline = "", self.baseline
        if baseline is None or measurement is None:
            reason = "nothing fits with it either"
        elif not measurement.fits or measurement.thrashing:
            reason = f"does not fit at {self.at_batch_size:,}, which fits without it"
        else:
            if result.micro_batches == 1:  # otherwise a step does a multiple of the work
                result = replace(
                    result,
                    flops_ratio=_ratio(measurement.flops, baseline.flops) if self.device.is_simulated else None,
                    step_time_ratio=_ratio(measurement.step_seconds, baseline.step_seconds),
                )
            if baseline.breakdown is None or measurement.breakdown is None:
                reason = f"the batch does not grow by {100 * self.min_gain:g} %"
            else:
                saved_bytes, category = memory_saved(baseline.breakdown, measurement.breakdown)
                result = replace(result, saved_bytes=saved_bytes, saved_from=category)
                limit = self.config.search.max_batch_size
                reason = reason_not_helpful(
                    saved_bytes,
                    self.at_batch_size,
                    measurement.breakdown.peak_phase,
                    min_gain=self.min_gain,
                    max_batch_size=limit if result.max_batch_size == limit else None,
                )
        return result if result.helps else replace(result, reason=reason)

    def _largest_with(self, combination: Sequence[MemoryOptimization]) -> int:
        """Return the largest batch size with a combination; 0 if it cannot run."""
        try:
            config = self._changed(combination)
            search = self.runner.largest(config, self._prefix + _names(combination), self.best_batch_size)
        except FATAL:
            raise
        except VramError:
            return 0
        return search.max_batch_size or 0

    def _fits_with(self, combination: Sequence[MemoryOptimization], batch_size: int) -> bool:
        try:
            config = self._changed(combination)
        except ConfigError:
            return False
        return self.fits(config, batch_size, _names(combination))

    def _changed(self, combination: Sequence[MemoryOptimization]) -> Config:
        return with_overrides(self.config, _overrides(combination))

    def _tried(self) -> list[tuple[MemoryOptimization, OptimizationResult]]:
        return list(zip(self.optimizations, self.results, strict=False))


def _combined(combination: Sequence[MemoryOptimization], size: int) -> OptimizationResult:
    return OptimizationResult(
        name=_names(combination),
        overrides=_overrides(combination),
        cost="; ".join(dict.fromkeys(change.cost_text for change in combination if change.cost_text)),
        max_batch_size=size,
        helps=True,
    )


def _overrides(combination: Sequence[MemoryOptimization]) -> tuple[str, ...]:
    return tuple(override for change in combination for override in change.overrides)


def _names(combination: Sequence[MemoryOptimization]) -> str:
    return " + ".join(change.name for change in combination)


def _ratio(after: float | None, before: float | None) -> float | None:
    return after / before if after and before else None
