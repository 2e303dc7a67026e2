"""Learning rates for other batch sizes, by the linear and the square root scaling rule."""

from __future__ import annotations

from math import sqrt

from vram_cli.config import Config
from vram_cli.records import LearningRateSuggestion, Scaling

_LINEAR = "linear scaling for SGD (Goyal et al. 2017, arXiv 1706.02677)"
_WARMUP = (
    ", with a warm-up from the old learning rate over the first epochs, 5 in the paper; valid up to a batch of 8,192 "
    "on ImageNet, less on small data sets"
)
_SQRT = (
    "square root scaling for Adam and RMSprop (Malladi et al. 2022, arXiv 2205.10287), which scales the betas as well; "
    "an approximation for small learning rates and noisy gradients"
)
_VALIDATE = ": check by validation"


def choose_scaling(config: Config) -> Scaling:
    """Return the rule that suits the config's optimizer."""
    return "linear" if config.optimizer.name == "sgd" else "sqrt"


def get_effective_batch_size(config: Config) -> int:
    """Return the samples per optimizer step in the config: the batch size times accumulation steps and ranks."""
    return config.train.batch_size * config.train.gradient_accumulation_steps * config.ranks


def scale_learning_rate(config: Config, samples: int, scaling: Scaling) -> float:
    """Scale the config's learning rate to `samples` per optimizer step."""
    ratio = samples / get_effective_batch_size(config)
    return config.train.learning_rate * {"linear": ratio, "sqrt": sqrt(ratio), "none": 1.0}[scaling]


def suggest_learning_rate(config: Config, samples: int) -> LearningRateSuggestion:
    """Suggest a learning rate for `samples` per optimizer step."""
    scaling = choose_scaling(config)
    learning_rate = scale_learning_rate(config, samples, scaling)
    note = _SQRT
    if scaling == "linear":  # only a higher learning rate than the config's needs a warm-up
        note = _LINEAR + (_WARMUP if learning_rate > config.train.learning_rate else "")
    return LearningRateSuggestion(
        from_batch_size=get_effective_batch_size(config),
        from_learning_rate=config.train.learning_rate,
        batch_size=samples,
        learning_rate=learning_rate,
        rule="linear" if scaling == "linear" else "square root",
        note=note + _VALIDATE,
    )
