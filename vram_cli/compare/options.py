"""Options of `vram compare`, and the plan that follows from them and the size of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vram_cli.compare.records import ComparePlan
from vram_cli.errors import ConfigError
from vram_cli.records import Scaling

FULL = "full"
DEFAULT_SIZES = (1, 32, 128, 256, FULL)
DEFAULT_SAMPLES = 10_000

_RANGES = {
    "samples": (2, 10**12),
    "folds": (1, 10**6),
    "epochs": (1, 10**6),
    "repeats": (1, 10**6),
    "warmup": (0, 10**6),
    "seed": (0, 2**53),  # PyTorch's generators take 64 bits, and multiples of the seed are seeds, too
}


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The flags of `vram compare`; `plan` validates them."""

    batch_sizes: Sequence[int | str] = DEFAULT_SIZES
    """Batch sizes; "full" is the whole training set."""
    samples: int | None = DEFAULT_SAMPLES
    """Samples drawn from the data set; None for all."""
    holdout: float = 0.2
    folds: int = 1
    epochs: int = 5
    repeats: int = 3
    lr_scaling: Scaling | None = None
    """None for the rule that suits the optimizer."""
    warmup: float = 0.0
    seed: int = 0
    accumulate: bool = False
    """Whether to train sizes that do not fit as micro-batches, with gradient accumulation."""

    def plan(self, num_samples: int, lr_scaling: Scaling) -> ComparePlan:
        """Return the plan for a data set of `num_samples`.

        Args:
            num_samples: Samples in the data set.
            lr_scaling: Rule for the learning rate if these options name none.

        Raises:
            ConfigError: An option is invalid; the message names the flag.
        """
        self._validate()
        samples = num_samples if self.samples is None else min(self.samples, num_samples)
        if samples < max(2, self.folds):
            raise ConfigError(
                f"--samples: {samples:,} of the {num_samples:,} in the data set are too few for training and "
                "validation",
                "use more samples",
            )
        return ComparePlan(
            samples=samples,
            holdout=self.holdout,
            folds=self.folds,
            epochs=self.epochs,
            lr_scaling=self.lr_scaling or lr_scaling,
            warmup=self.warmup,
            seed=self.seed,
        )

    def sizes(self, plan: ComparePlan) -> tuple[int, ...]:
        """Return the batch sizes as numbers, without duplicates.

        Raises:
            ConfigError: A size exceeds the training set.
        """
        limit = plan.num_train_samples
        sizes = [limit if size == FULL else int(size) for size in self.batch_sizes]
        for size in sizes:
            if size > limit:
                raise ConfigError(
                    f"--batch-sizes: {size:,} exceeds the {limit:,} training samples",
                    f"use at most {limit:,}, write full for all of them, or increase --samples",
                )
        return tuple(dict.fromkeys(sizes))

    def _validate(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # also false for NaN
                raise ConfigError(f"--{name}: must be from {least} to {most:,}, got {value:,}")
        if not 0 < self.holdout < 1:
            raise ConfigError(f"--holdout: must be between 0 and 1, got {self.holdout:g}", "for example 0.2")
        if not self.batch_sizes:
            raise ConfigError("--batch-sizes: the list is empty", "for example 1,32,128,full")
        for size in self.batch_sizes:
            if size != FULL and int(size) < 1:
                raise ConfigError(f"--batch-sizes: must be at least 1, got {size}")


def parse_sizes(text: str) -> tuple[int | str, ...]:
    """Parse a list of batch sizes such as "1,32,128,full".

    Raises:
        ConfigError: An item is neither a whole number nor "full".
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word != FULL and not (word.isascii() and word.isdigit() and len(word) < 19):
            raise ConfigError(f"--batch-sizes: {word!r} is neither a number nor full", "for example 1,32,128,full")
    return tuple(word if word == FULL else int(word) for word in words)
