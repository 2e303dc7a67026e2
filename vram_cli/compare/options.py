"""What is asked for, and what becomes of it once the length of the data set is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vram_cli.compare.records import ComparePlan
from vram_cli.errors import ConfigError
from vram_cli.records import Scaling

FULL = "full"
DEFAULT_SIZES = (1, 32, 128, 256, FULL)
DEFAULT_SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The flags of `vram compare`; the checks are those of `plan`."""

    batch_sizes: Sequence[int | str] = DEFAULT_SIZES
    """"full" for one that holds all training samples."""
    samples: int | None = DEFAULT_SAMPLES
    """Of the data set; None for all."""
    holdout: float = 0.2
    folds: int = 1
    epochs: int = 5
    repeats: int = 3
    scaling: Scaling | None = None
    """None for the rule that goes with the optimizer."""
    warmup: float = 0.0
    seed: int = 0
    accumulate: bool = False
    """Whether sizes that do not fit are trained in parts, gradients added up."""

    def plan(self, length: int, scaling: Scaling) -> ComparePlan:
        """Return the plan for a data set of so many samples; `scaling` is taken where none is asked for.

        Raises:
            ConfigError: it cannot be done; the message names the flag.
        """
        self._check()
        samples = length if self.samples is None else min(self.samples, length)
        if samples < max(2, self.folds):
            few = f"--samples: {samples:,} of the {length:,} in the data set"
            raise ConfigError(f"{few} are too few to train on some and validate with others", "take more")
        return ComparePlan(
            samples=samples,
            holdout=self.holdout,
            folds=self.folds,
            epochs=self.epochs,
            scaling=self.scaling or scaling,
            warmup=self.warmup,
            seed=self.seed,
        )

    def sizes(self, plan: ComparePlan) -> tuple[int, ...]:
        """Return the batch sizes as numbers, each once.

        Raises:
            ConfigError: one is larger than the training samples.
        """
        sizes = [plan.trained if size == FULL else int(size) for size in self.batch_sizes]
        for size in sizes:
            if size > plan.trained:
                raise ConfigError(
                    f"--batch-sizes: {size:,} is more than the {plan.trained:,} training samples",
                    f"take at most {plan.trained:,}, write full for all of them, or take more --samples",
                )
        return tuple(dict.fromkeys(sizes))

    def _check(self) -> None:
        least = {"samples": 2, "folds": 1, "epochs": 1, "repeats": 1, "warmup": 0, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"--{name}: must be at least {low}, got {value:g}")
        if not 0 < self.holdout < 1:
            raise ConfigError(f"--holdout: must be a share between 0 and 1, got {self.holdout:g}", "such as 0.2")
        if not self.batch_sizes:
            raise ConfigError("--batch-sizes: names no size", "such as 1,32,128,full")
        for size in self.batch_sizes:
            if size != FULL and int(size) < 1:
                raise ConfigError(f"--batch-sizes: must be at least 1, got {size}")


def parse_sizes(text: str) -> tuple[int | str, ...]:
    """Return the sizes in "1,32,128,full".

    Raises:
        ConfigError: one of them is neither a whole number nor full.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word != FULL and not (word.isascii() and word.isdigit() and len(word) < 19):
            raise ConfigError(f"--batch-sizes: {word!r} is neither a number nor full", "such as 1,32,128,full")
    return tuple(word if word == FULL else int(word) for word in words)
