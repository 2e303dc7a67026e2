"""A learning rate for another batch size, by the two rules that theory and practice have."""

from __future__ import annotations

from math import sqrt

from vram_cli.config import Config
from vram_cli.results import RateAnswer

_LINEAR = (
    "linear scaling for SGD (Goyal et al. 2017, arXiv 1706.02677), with a warm-up from the old rate over the first "
    "epochs, 5 there; it held up to a batch of 8,192 on ImageNet, and fails sooner on small data: compare by validation"
)
_SQUARE_ROOT = (
    "square root scaling for Adam and RMSprop (Malladi et al. 2022, arXiv 2205.10287), which scales the betas as well; "
    "an approximation for small rates and noisy gradients: compare by validation"
)


def rate_for(config: Config, samples: int) -> RateAnswer:
    """Return the rate that goes with so many samples to a step, from the config's own batch, accumulation and rate."""
    train = config.train
    before = train.batch_size * train.accumulate
    linear = config.optimizer.name == "sgd"
    return RateAnswer(
        from_batch_size=before,
        from_rate=train.learning_rate,
        batch_size=samples,
        rate=train.learning_rate * (samples / before if linear else sqrt(samples / before)),
        rule="linear" if linear else "square root",
        note=_LINEAR if linear else _SQUARE_ROOT,
    )
