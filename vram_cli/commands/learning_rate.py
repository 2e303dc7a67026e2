"""A learning rate for another batch size, by the two rules that theory and practice have."""

from __future__ import annotations

from math import sqrt

from vram_cli.config import Config
from vram_cli.records import LearningRateSuggestion, Scaling

_LINEAR = "linear scaling for SGD (Goyal et al. 2017, arXiv 1706.02677)"
_WARM_UP = (
    ", with a warm-up from the old rate over the first epochs, 5 there; it held up to a batch of 8,192 on ImageNet, "
    "and fails sooner on small data"
)
_COMPARE = ": compare by validation"
_SQUARE_ROOT = (
    "square root scaling for Adam and RMSprop (Malladi et al. 2022, arXiv 2205.10287), which scales the betas as well; "
    "an approximation for small rates and noisy gradients"
)


def scaling_of(config: Config) -> Scaling:
    """Return the rule that goes with the config's optimizer."""
    return "linear" if config.optimizer.family == "sgd" else "sqrt"


def base_batch(config: Config) -> int:
    """Return the samples of an optimizer's step that the config's own rate is of: batch times accumulation."""
    return config.train.batch_size * config.train.gradient_accumulation_steps


def scaled(config: Config, samples: int, scaling: Scaling) -> float:
    """Return the config's learning rate, scaled to so many samples to a step of the optimizer."""
    ratio = samples / base_batch(config)
    return config.train.learning_rate * {"linear": ratio, "sqrt": sqrt(ratio), "none": 1.0}[scaling]


def rate_for(config: Config, samples: int) -> LearningRateSuggestion:
    """Return the rate that goes with so many samples to a step, from the config's own batch, accumulation and rate."""
    scaling = scaling_of(config)
    rate = scaled(config, samples, scaling)
    words = _SQUARE_ROOT
    if scaling == "linear":  # a smaller step than the one that is known to train needs no warm-up to it
        words = _LINEAR + (_WARM_UP if rate > config.train.learning_rate else "")
    return LearningRateSuggestion(
        from_batch_size=base_batch(config),
        from_rate=config.train.learning_rate,
        batch_size=samples,
        rate=rate,
        rule="linear" if scaling == "linear" else "square root",
        note=words + _COMPARE,
    )
